/* The reference: what a server of SSE, or of Socket.IO's WebSockets, costs when nothing but the kernel does.
 *
 *   reference PORT CONTROL_PORT each|coalesce [websocket]
 *
 * each:      one send for each event and client.
 * coalesce:  one log, a cursor a client; each pass over the clients sends a client everything new at once.
 * websocket: clients speak Engine.IO 4 and Socket.IO 5 on a WebSocket. What they send is taken for what they must send.
 *
 * One loop of epoll, non-blocking sockets, no thread. A client whose socket is full waits for EPOLLOUT and then
 * catches up from the log; one that the log has lapped is closed. Orders come by UDP to CONTROL_PORT, as publisher.py
 * describes them. GET /events (or /socket.io/) is the stream, GET /health a small answer, kept open if the client wants.
 */
#include "common.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define RING (16u << 20)
#define EVENTS (1u << 20)
#define FOREVER 3600000000000
#define AT_ONCE 64 /* how many events are appended before a pass when there is no rate to keep */

struct client {
    int fd, streams, upgraded, blocked, at, gone;
    uint64_t cursor; /* coalesce: bytes of the log; each: events of it */
    uint32_t part;   /* each: bytes of that event already sent */
    char request[1024];
    int length;
    struct client *next;
};

static char *ring;
static uint64_t bytes_end, events_end, *event_start;
static struct client **streams, *graves;
static int stream_count, stream_room, blocked_count, epoll, coalesce, websocket;
static char stream_head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                            "Connection: close\r\n\r\n: open\n\n";
/* The answer to the key is not computed: load.c does not look at it. */
static char websocket_head[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
                               "\x81\x60" "0{\"sid\":\"reference\",\"upgrades\":[],\"pingInterval\":25000,"
                               "\"pingTimeout\":20000,\"maxPayload\":1000000}";
static char connected[] = "\x81\x15" "40{\"sid\":\"reference\"}";
static char health[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\": \"ok\"}";

static void watch(struct client *c, uint32_t events, int operation) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &e) < 0) die("epoll_ctl");
}

static void drop(struct client *c) {
    if (c->streams) {
        streams[c->at] = streams[--stream_count];
        streams[c->at]->at = c->at;
        blocked_count -= c->blocked;
    }
    close(c->fd);
    c->gone = 1;
    c->next = graves; /* freed when no answer of epoll can name it any more */
    graves = c;
}

/* Map the ring twice, one behind the other, so that any part of it is contiguous. */
static void make_ring(void) {
    int fd = memfd_create("log", 0);
    if (fd < 0 || ftruncate(fd, RING) < 0) die("memfd");
    ring = mmap(NULL, 2ul * RING, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int half = 0; half < 2; half++)
        if (mmap(ring + (size_t)half * RING, RING, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
            die("mmap");
    event_start = calloc(EVENTS, sizeof *event_start);
}

static void appended(int length) {
    event_start[events_end % EVENTS] = bytes_end;
    bytes_end += (uint64_t)length;
    events_end++;
    event_start[events_end % EVENTS] = bytes_end;
}

/* Append one event of about `size` bytes, at most 64 KiB, as a frame with a head of 4 bytes. */
static void append_frame(char *place, long n, int64_t stamp, int size) {
    int used = 4 + sprintf(place + 4, "42[\"tick\",{\"n\":%ld,\"t\":%lld,\"z\":\"", n, (long long)stamp);
    int padding = size - used - 3 < 126 - used ? 126 - used : size - used - 3, length = used + padding + 3 - 4;
    memset(place + used, 'x', (size_t)padding);
    memcpy(place + used + padding, "\"}]", 3);
    place[0] = (char)0x81, place[1] = 126, place[2] = (char)(length >> 8), place[3] = (char)length;
    appended(length + 4);
}

/* Append one event of about `size` bytes on the wire. */
static void append(long n, int64_t stamp, int size) {
    char *place = ring + bytes_end % RING;
    if (websocket) {
        append_frame(place, n, stamp, size);
        return;
    }
    int used = sprintf(place, "id: 1755412806000-%llu\nevent: tick\ndata: {\"n\":%ld,\"t\":%lld,\"z\":\"",
                       (unsigned long long)events_end, n, (long long)stamp);
    int padding = size - used - 4;
    if (padding < 0) padding = 0;
    memset(place + used, 'x', (size_t)padding);
    memcpy(place + used + padding, "\"}\n\n", 4);
    appended(used + padding + 4);
}

/* Where in the log a client is. */
static uint64_t place(const struct client *c) {
    return coalesce ? c->cursor : event_start[c->cursor % EVENTS] + c->part;
}

/* What the client has not got is no longer in the log. */
static int lapped(const struct client *c) {
    if (!coalesce && events_end - c->cursor >= EVENTS) return 1;
    return bytes_end - place(c) > RING;
}

/* Send a client what it lacks. Return 0 if the client is gone. */
static int advance(struct client *c) {
    for (;;) {
        uint64_t from = place(c), end = bytes_end;
        if (from == bytes_end) break;
        if (lapped(c)) return 0;
        if (!coalesce) end = event_start[(c->cursor + 1) % EVENTS];
        ssize_t sent = send(c->fd, ring + from % RING, end - from, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) return 0;
            sent = 0;
        }
        if (coalesce) c->cursor += (uint64_t)sent;
        else if (from + (uint64_t)sent == end) c->cursor++, c->part = 0;
        else c->part += (uint32_t)sent;
        if (from + (uint64_t)sent < end) {
            if (!c->blocked) c->blocked = 1, blocked_count++, watch(c, EPOLLIN | EPOLLRDHUP | EPOLLOUT, EPOLL_CTL_MOD);
            return 1;
        }
    }
    if (c->blocked) c->blocked = 0, blocked_count--, watch(c, EPOLLIN | EPOLLRDHUP, EPOLL_CTL_MOD);
    return 1;
}

static void pass(void) {
    for (int i = stream_count - 1; i >= 0; i--)
        if (streams[i]->blocked ? lapped(streams[i]) : !advance(streams[i])) drop(streams[i]);
}

static void publish(long n, int64_t stamp, int size) {
    append(n, stamp, size);
    if (!coalesce) pass();
}

static void become_stream(struct client *c) {
    if (stream_count == stream_room) streams = realloc(streams, (stream_room += 1024) * sizeof *streams);
    c->streams = 1;
    c->at = stream_count;
    streams[stream_count++] = c;
    c->cursor = coalesce ? bytes_end : events_end;
    char *first = websocket ? connected : stream_head;
    size_t length = websocket ? sizeof connected - 1 : sizeof stream_head - 1;
    if (send(c->fd, first, length, MSG_NOSIGNAL) < 0) drop(c);
}

static void serve(struct client *c) {
    ssize_t got = recv(c->fd, c->request + c->length, sizeof c->request - 1 - (size_t)c->length, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) drop(c);
        return;
    }
    if (c->streams) return;
    if (c->upgraded) { /* it asks for a namespace */
        become_stream(c);
        return;
    }
    c->length += (int)got;
    c->request[c->length] = 0;
    if (!strstr(c->request, "\r\n\r\n")) {
        if (c->length == sizeof c->request - 1) drop(c);
        return;
    }
    c->length = 0;
    if (strncmp(c->request, "GET /events", 11) == 0) become_stream(c);
    else if (websocket && strncmp(c->request, "GET /socket.io/", 15) == 0) {
        c->upgraded = 1;
        if (send(c->fd, websocket_head, sizeof websocket_head - 1, MSG_NOSIGNAL) < 0) drop(c);
    }
    else if (send(c->fd, health, sizeof health - 1, MSG_NOSIGNAL) < 0 || strstr(c->request, "Connection: close")) drop(c);
}

static int listening(int kind, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, kind | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&a, sizeof a) < 0) die("bind to %d", port);
    if (kind == SOCK_STREAM && listen(fd, 4096) < 0) die("listen");
    return fd;
}

/* An order of publishing at a rate that is under way. */
static struct {
    long next, count;
    double rate;
    int size;
    int64_t started;
    struct sockaddr_in from;
    struct histogram cost;
} job;

static void answer(int control, const struct sockaddr_in *to, int64_t now) {
    char text[1024];
    FILE *out = fmemopen(text, sizeof text, "w");
    fprintf(out, "{\"published\": %ld, \"seconds\": %.6f, ", job.count, (double)(now - job.started) / 1e9);
    print_histogram(out, "emit_us", &job.cost);
    fprintf(out, "}");
    fclose(out);
    sendto(control, text, strlen(text), 0, (const void *)to, sizeof *to);
}

static void obey(int control) {
    char line[512], *words[8];
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t got = recvfrom(control, line, sizeof line - 1, 0, (void *)&from, &length);
    if (got <= 0) return;
    line[got] = 0;
    int count = split(line, words, 8);
    if (count >= 3 && strcmp(words[0], "one") == 0) publish(atol(words[1]), now_ns(), atoi(words[2]));
    else if (count >= 4 && strcmp(words[0], "rate") == 0) {
        memset(&job, 0, sizeof job);
        job.rate = atof(words[1]), job.count = atol(words[2]), job.size = atoi(words[3]);
        job.started = now_ns(), job.from = from, job.next = 1;
    } else if (count >= 1 && strcmp(words[0], "hello") == 0) sendto(control, "{}", 2, 0, (void *)&from, length);
}

/* Publish what is due; return how long, in ns, the loop may wait. Between two events that each go out by themselves the
 * loop looks at its sockets. */
static int64_t work(int control) {
    if (job.next == 0 || job.next > job.count) return FOREVER;
    int64_t now = now_ns(), due = now;
    long most = !coalesce ? 1 : job.rate > 0 ? job.count : AT_ONCE;
    for (long done = 0; job.next <= job.count && done < most; done++) {
        /* With no rate to keep, nobody is to be lapped: the next events wait until every client has got the last. */
        if (job.rate <= 0 && blocked_count > 0) return FOREVER;
        if (job.rate > 0) due = job.started + (int64_t)((double)(job.next - 1) * 1e9 / job.rate);
        if (due > now) break;
        int64_t before = now_ns();
        publish(job.next++, due, job.size);
        record(&job.cost, now_ns() - before);
    }
    now = now_ns();
    if (job.next > job.count) {
        answer(control, &job.from, now);
        return FOREVER;
    }
    return due > now ? due - now : 0;
}

int main(int count, char **arguments) {
    if (count < 4) return fprintf(stderr, "usage: reference PORT CONTROL_PORT each|coalesce [websocket]\n"), 2;
    coalesce = strcmp(arguments[3], "coalesce") == 0, websocket = count > 4;
    make_ring();
    int front = listening(SOCK_STREAM, atoi(arguments[1])), control = listening(SOCK_DGRAM, atoi(arguments[2]));
    epoll = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &front};
    epoll_ctl(epoll, EPOLL_CTL_ADD, front, &e);
    e.data.ptr = &control;
    epoll_ctl(epoll, EPOLL_CTL_ADD, control, &e);
    for (uint64_t passed = 0;;) {
        struct epoll_event ready[256];
        int64_t wait = work(control);
        if (coalesce && passed != bytes_end) pass(), passed = bytes_end;
        struct timespec until = {wait / 1000000000, wait % 1000000000};
        int many = epoll_pwait2(epoll, ready, 256, &until, NULL);
        for (int i = 0; i < many; i++) {
            if (ready[i].data.ptr == &control) obey(control);
            else if (ready[i].data.ptr == &front) {
                for (int fd, on = 1; (fd = accept4(front, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    struct client *c = calloc(1, sizeof *c);
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    c->fd = fd;
                    watch(c, EPOLLIN | EPOLLRDHUP, EPOLL_CTL_ADD);
                }
            } else {
                struct client *c = ready[i].data.ptr;
                if (c->gone) continue;
                if (ready[i].events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) drop(c);
                else if (ready[i].events & EPOLLOUT) {
                    if (!advance(c)) drop(c);
                } else serve(c);
            }
        }
        for (struct client *c; (c = graves);) graves = c->next, free(c);
    }
}
