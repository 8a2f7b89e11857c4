/* Requests to one address, timed.
 *
 *   ping PORT PATH [connections=1] [rate=0] [seconds=5] [new=0] [method=GET] [body=text]
 *
 * rate: requests a second in all, timed from when each was due, whether or not a connection was free for it;
 * 0: each connection asks again as soon as it is answered. new=1: a new connection for each request, whose
 * time includes connecting. Prints one line of JSON.
 */
#include "common.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct slot {
    int fd, busy, connected;
    int64_t due;
    char answer[65536];
    size_t length;
};

static struct slot slots[4096];
static struct histogram latency;
static char request[8192];
static size_t request_length;
static int epoll, renew, port;
static long answered, errors, refused;

static void hang_up(struct slot *s) {
    if (s->fd >= 0) close(s->fd);
    s->fd = -1, s->connected = 0;
}

static void failed(struct slot *s) {
    errors++;
    s->busy = 0;
    hang_up(s);
}

static void ask(struct slot *s) {
    if (send(s->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) failed(s);
}

static void begin(struct slot *s, int64_t due) {
    s->busy = 1, s->due = due, s->length = 0;
    if (s->fd >= 0) {
        ask(s);
        return;
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = s};
    if ((connect(s->fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS) || epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &e) < 0)
        failed(s);
}

/* Whether the answer is whole: its length is told, or chunks end. */
static int whole(struct slot *s, int closed) {
    char *end = memmem(s->answer, s->length, "\r\n\r\n", 4);
    if (!end) return 0;
    end += 4;
    size_t have = s->length - (size_t)(end - s->answer);
    char kept = *end;
    *end = 0;
    char *length = strcasestr(s->answer, "\r\ncontent-length:"), *chunked = strcasestr(s->answer, "\r\ntransfer-encoding: chunked");
    size_t wanted = length ? strtoul(length + 17, NULL, 10) : 0;
    *end = kept;
    if (length) return have >= wanted;
    if (chunked) return have >= 5 && memcmp(s->answer + s->length - 5, "0\r\n\r\n", 5) == 0;
    return closed;
}

static void ready(struct slot *s) {
    if (s->fd < 0) return;
    if (!s->connected) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            failed(s);
            return;
        }
        s->connected = 1;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
        epoll_ctl(epoll, EPOLL_CTL_MOD, s->fd, &e);
        ask(s);
        return;
    }
    ssize_t got = recv(s->fd, s->answer + s->length, sizeof s->answer - 1 - s->length, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    int closed = got <= 0;
    if (!closed) s->length += (size_t)got;
    if (!s->busy) {
        hang_up(s);
        return;
    }
    if (whole(s, closed)) {
        record(&latency, now_ns() - s->due);
        answered++;
        if (atoi(s->answer + 9) >= 400) refused++;
        s->busy = 0;
        s->answer[s->length] = 0;
        if (renew || closed || strcasestr(s->answer, "\r\nconnection: close")) hang_up(s);
    } else if (closed) failed(s);
}

int main(int count, char **arguments) {
    if (count < 3) return fprintf(stderr, "usage: ping PORT PATH [connections=] [rate=] [seconds=] [new=] [method=] [body=]\n"), 2;
    int connections = (int)number(arguments, count, "connections", 1);
    double rate = number(arguments, count, "rate", 0), seconds = number(arguments, count, "seconds", 5);
    const char *method = option(arguments, count, "method"), *body = option(arguments, count, "body");
    port = atoi(arguments[1]), renew = (int)number(arguments, count, "new", 0);
    if (connections > 4096) connections = 4096;
    char more[128] = "";
    if (body) snprintf(more, sizeof more, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    request_length = (size_t)snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s\r\n%s",
        method ? method : "GET", arguments[2], port, renew ? "Connection: close\r\n" : "", more, body ? body : "");
    epoll = epoll_create1(0);
    for (int i = 0; i < connections; i++) slots[i].fd = -1;
    int64_t start = now_ns(), end = start + (int64_t)(seconds * 1e9), give_up = end + 10000000000;
    long due_number = 0;
    for (;;) {
        int64_t now = now_ns();
        int busy = 0;
        for (int i = 0; i < connections; i++) {
            struct slot *s = &slots[i];
            int64_t due = rate > 0 ? start + (int64_t)((double)due_number * 1e9 / rate) : now;
            if (!s->busy && due <= now && due < end) {
                due_number++;
                begin(s, due);
            }
            busy += s->busy;
        }
        int64_t due = rate > 0 ? start + (int64_t)((double)due_number * 1e9 / rate) : now;
        if (now > give_up || (busy == 0 && (rate > 0 ? due >= end : now >= end))) break;
        struct epoll_event ready_slots[256];
        int64_t next = rate > 0 && busy < connections && due < end ? due : now + 20000000;
        struct timespec wait = {0, next > now ? next - now : 0};
        if (wait.tv_nsec > 20000000) wait.tv_nsec = 20000000;
        int many = epoll_pwait2(epoll, ready_slots, 256, &wait, NULL);
        for (int i = 0; i < many; i++) ready(ready_slots[i].data.ptr);
    }
    double took = (double)(now_ns() - start) / 1e9;
    for (int i = 0; i < connections; i++) errors += slots[i].busy;
    printf("{\"answered\": %ld, \"errors\": %ld, \"refused\": %ld, \"seconds\": %.3f, ", answered, errors, refused, took);
    print_histogram(stdout, "latency_us", &latency);
    printf("}\n");
}
