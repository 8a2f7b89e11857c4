/* The load: thousands of clients of one server, in one process and one loop.
 *
 *   load PUBLISHER_PORT        orders come by standard input, one a line; each is answered by one line of JSON
 *
 *   group NAME kind=sse|ws port=P path=/… [header=Name:value] [rcvbuf=BYTES] [sparse=1]
 *                       a path may be several with | between them, which the clients take in turn
 *   connect NAME COUNT [window=64] [timeout=30]   until COUNT more clients of the group are open. Servers that send
 *                       their headers with the first event are asked to publish number 0, which counts as nothing.
 *   reset               the next number every client expects is 1; nothing has been received
 *   each COUNT SIZE [timeout=60] [extra=word]     ask for COUNT events, each when all clients have got the last one
 *   wait NAME COUNT [timeout=60]                  until every client of the group has got number COUNT
 *   stall NAME          the group's clients stop reading
 *   resume NAME         they read again
 *   stats NAME          what the group has received
 *   close NAME          hang up; the group is forgotten
 *
 * A payload is a JSON object that begins {"n":NUMBER,"t":NANOSECONDS of CLOCK_MONOTONIC as it was published. Latency
 * is from there to the recv that brought the end of the event. A number that is skipped is lost, one that comes again
 * is repeated; a group of clients that are to get only some events is sparse. Other events are only counted.
 */
#include "common.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { CONNECTING, HEAD, BODY, OPEN, CLOSED };
enum { A_FEW = 8 };
enum { SIZE_LINE, CHUNK, CHUNK_END, LAST };

struct group {
    char name[32], path[512], header[512];
    int used, websocket, port, rcvbuf, sparse, stalled;
    int clients, open, closed, failed;
    uint64_t events, others, lost, repeated, bytes, recvs;
    struct histogram latency, opening;
};

struct client {
    int fd, index, state, chunked, chunk_state;
    long chunk_left;
    struct group *group;
    int64_t began, expected, n, stamp;
    int has_number, has_data;
    char *carry; /* the beginning of a line or frame whose end has not come */
    size_t carried, room;
};

static struct group groups[32];
static struct client **clients;
static int client_count, client_room, epoll, publisher;
static char buffer[1 << 18];
static int64_t received_at;

static struct {
    enum { NOTHING, CONNECT, EACH, WAIT } kind;
    struct group *group;
    long count, started, opened, failed, remaining, current;
    int window, size;
    int64_t began, deadline, warmed, last;
    char extra[128];
} task;

static void tell(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    fflush(stdout);
}

static void ask(const char *format, ...) {
    char text[256];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (send(publisher, text, (size_t)length, 0) < 0) die("asking the publisher");
}

static void watch(struct client *c, uint32_t events, int operation) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &e) < 0) die("epoll_ctl");
}

static void keep(struct client *c, const char *data, size_t length) {
    if (c->carried + length > c->room) {
        c->room = (c->carried + length) * 2;
        if (c->room > 64u << 20) errno = EMSGSIZE, die("a line of more than 32 MiB");
        c->carry = realloc(c->carry, c->room);
    }
    memcpy(c->carry + c->carried, data, length);
    c->carried += length;
}

static void shut(struct client *c) {
    if (c->state == CLOSED) return;
    struct group *g = c->group;
    if (c->state == OPEN) {
        g->open--, g->closed++;
        if (task.kind == EACH && !g->stalled && c->expected <= task.current) task.remaining--;
    } else {
        g->failed++;
        if (task.kind == CONNECT && task.group == g) task.failed++;
    }
    c->state = CLOSED;
    close(c->fd);
    free(c->carry);
    c->carry = NULL;
    c->carried = c->room = 0;
}

static void opened(struct client *c) {
    if (c->state == OPEN) return;
    c->state = OPEN;
    c->group->open++;
    record(&c->group->opening, received_at - c->began);
    if (task.kind == CONNECT && task.group == c->group) task.opened++;
}

/* One whole event has come. */
static void deliver(struct client *c) {
    struct group *g = c->group;
    if (!c->has_number || c->n == 0) {
        g->others++;
        return;
    }
    g->events++;
    if (c->n < c->expected) {
        g->repeated++;
        return;
    }
    if (c->n > c->expected && !g->sparse) g->lost += (uint64_t)(c->n - c->expected);
    c->expected = c->n + 1;
    record(&g->latency, received_at - c->stamp);
    if (task.kind == EACH && c->n == task.current) task.remaining--, task.last = received_at;
}

static int64_t digits(const char **at, const char *end) {
    int64_t value = 0;
    while (*at < end && **at == ' ') ++*at;
    while (*at < end && **at >= '0' && **at <= '9') value = value * 10 + *(*at)++ - '0';
    return value;
}

/* Find the number and the stamp in a payload. */
static void payload(struct client *c, const char *data, const char *end) {
    static const char key[] = "\"n\":";
    const char *at = data + 1;
    if (end - data < 12) return;
    if (memcmp(at, key, 4) != 0 && !(at = memmem(data, (size_t)(end - data), key, 4))) return;
    at += 4;
    c->n = digits(&at, end);
    if (end - at < 6) return;
    at += at[1] == ' ' ? 2 : 1;
    if (memcmp(at, "\"t\":", 4) != 0) return;
    at += 4;
    c->stamp = digits(&at, end);
    c->has_number = 1;
}

/* One line of an event stream, without its end. */
static void line(struct client *c, const char *data, size_t length) {
    if (length && data[length - 1] == '\r') length--;
    if (length == 0) {
        if (c->has_data) deliver(c);
        c->has_data = c->has_number = 0;
    } else if (length >= 5 && memcmp(data, "data:", 5) == 0) {
        const char *value = data + 5 + (length > 5 && data[5] == ' ');
        c->has_data = 1;
        payload(c, value, data + length);
    }
}

static void lines(struct client *c, const char *data, const char *end) {
    while (data < end) {
        const char *stop = memchr(data, '\n', (size_t)(end - data));
        if (!stop) {
            keep(c, data, (size_t)(end - data));
            return;
        }
        if (c->carried) {
            keep(c, data, (size_t)(stop - data));
            line(c, c->carry, c->carried);
            c->carried = 0;
        } else line(c, data, (size_t)(stop - data));
        data = stop + 1;
    }
}

static void unchunk(struct client *c, const char *data, const char *end) {
    while (data < end) {
        if (c->chunk_state == CHUNK) {
            long part = end - data < c->chunk_left ? end - data : c->chunk_left;
            lines(c, data, data + part);
            data += part;
            if ((c->chunk_left -= part) == 0) c->chunk_state = CHUNK_END;
        } else {
            char letter = *data++;
            if (letter == '\n') {
                if (c->chunk_state == CHUNK_END) c->chunk_state = SIZE_LINE;
                else c->chunk_state = c->chunk_left ? CHUNK : LAST;
            } else if (c->chunk_state == SIZE_LINE && letter != '\r') {
                int digit = letter <= '9' ? letter - '0' : (letter | 32) - 'a' + 10;
                c->chunk_left = c->chunk_left * 16 + digit;
            }
        }
    }
}

static void frame_out(struct client *c, int opcode, const char *text, size_t length) {
    char frame[140] = {(char)(0x80 | opcode), (char)(0x80 | length)}; /* masked with zeros */
    memcpy(frame + 6, text, length);
    if (send(c->fd, frame, 6 + length, MSG_NOSIGNAL) < 0) shut(c);
}

/* What engine.io 4 and socket.io 5 put into one text frame. */
static void message(struct client *c, const char *data, size_t length) {
    if (length == 0) return;
    if (data[0] == '0') frame_out(c, 1, "40", 2);
    else if (data[0] == '2') frame_out(c, 1, "3", 1);
    else if (length > 1 && memcmp(data, "40", 2) == 0) opened(c);
    else if (length > 3 && memcmp(data, "42[", 3) == 0) {
        const char *object = memchr(data, '{', length);
        c->has_number = 0;
        if (object) payload(c, object, data + length);
        deliver(c);
        c->has_number = 0;
    }
}

static void frames(struct client *c, const char *data, const char *end) {
    if (c->carried) {
        keep(c, data, (size_t)(end - data));
        data = c->carry, end = c->carry + c->carried;
    }
    while (c->state != CLOSED && end - data >= 2) {
        const unsigned char *head = (const unsigned char *)data;
        uint64_t length = head[1] & 127;
        int size = 2;
        if (length == 126) {
            if (end - data < 4) break;
            length = (uint64_t)head[2] << 8 | head[3], size = 4;
        } else if (length == 127) {
            if (end - data < 10) break;
            length = 0, size = 10;
            for (int i = 2; i < 10; i++) length = length << 8 | head[i];
        }
        if ((uint64_t)(end - data) < (uint64_t)size + length) break;
        int opcode = head[0] & 15;
        if (opcode == 1) message(c, data + size, length);
        else if (opcode == 9) frame_out(c, 10, data + size, length < 125 ? length : 125);
        else if (opcode == 8) shut(c);
        data += (uint64_t)size + length;
    }
    if (c->state == CLOSED) return;
    size_t rest = (size_t)(end - data);
    if (c->carried) memmove(c->carry, data, rest), c->carried = rest;
    else if (rest) keep(c, data, rest);
}

static void body(struct client *c, const char *data, const char *end) {
    if (data == end) return;
    if (c->group->websocket) frames(c, data, end);
    else {
        if (c->state == BODY) opened(c);
        if (c->chunked) unchunk(c, data, end);
        else lines(c, data, end);
    }
}

/* The head of the answer. */
static void head(struct client *c, const char *data, size_t length) {
    keep(c, data, length);
    char *end = memmem(c->carry, c->carried, "\r\n\r\n", 4);
    if (!end) return;
    int status = c->carried > 12 ? atoi(c->carry + 9) : 0;
    if (status != (c->group->websocket ? 101 : 200)) {
        fprintf(stderr, "%s: %.*s\n", c->group->name, (int)c->carried, c->carry);
        shut(c);
        return;
    }
    *end = 0;
    c->chunked = strcasestr(c->carry, "\r\ntransfer-encoding: chunked") != NULL;
    c->state = BODY;
    char *rest = c->carry, *start = end + 4;
    size_t left = c->carried - (size_t)(start - rest);
    c->carry = NULL, c->carried = c->room = 0;
    body(c, start, start + left);
    free(rest);
}

static void ready(struct client *c) {
    if (c->state == CLOSED) return;
    struct group *g = c->group;
    if (c->state == CONNECTING) {
        char text[2048], paths[sizeof g->path], *rest = paths, *path = NULL;
        int several = 1;
        memcpy(paths, g->path, sizeof paths);
        for (const char *at = paths; *at; at++) several += *at == '|';
        for (int i = 0; i <= c->index % several; i++) path = strsep(&rest, "|");
        char upgrade[160]; /* each client has a key of its own: 16 bytes as base64 */
        snprintf(upgrade, sizeof upgrade, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: %021dA==\r\n", c->index);
        int length = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s%s\r\n", path, g->port,
            g->header, g->header[0] ? "\r\n" : "", g->websocket ? upgrade : "Accept: text/event-stream\r\n");
        if (send(c->fd, text, (size_t)length, MSG_NOSIGNAL) != length) {
            shut(c);
            return;
        }
        c->state = HEAD;
        watch(c, EPOLLIN, EPOLL_CTL_MOD);
        return;
    }
    ssize_t got = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) shut(c);
        return;
    }
    received_at = now_ns();
    g->recvs++, g->bytes += (uint64_t)got;
    if (c->state == HEAD) head(c, buffer, (size_t)got);
    else body(c, buffer, buffer + got);
}

static void start_client(struct group *g) {
    struct client *c = calloc(1, sizeof *c);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)g->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (g->rcvbuf) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &g->rcvbuf, sizeof g->rcvbuf);
    c->group = g, c->expected = 1, c->began = now_ns();
    c->index = g->clients++;
    if (client_count == client_room) clients = realloc(clients, (size_t)(client_room += 1024) * sizeof *clients);
    clients[client_count++] = c;
    if (connect(c->fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        shut(c);
        return;
    }
    watch(c, EPOLLOUT, EPOLL_CTL_ADD);
}

/* ---------------------------------------------------------------------------------------------------- orders */

static struct group *find(const char *name) {
    for (int i = 0; i < 32; i++)
        if (groups[i].used && strcmp(groups[i].name, name) == 0) return &groups[i];
    return NULL;
}

static void new_group(char **words, int count) {
    struct group *g = NULL;
    const char *path = option(words, count, "path"), *kind = option(words, count, "kind"), *header = option(words, count, "header");
    for (int i = 0; i < 32 && !g; i++)
        if (!groups[i].used) g = &groups[i];
    if (!g || !path || !kind || find(words[1])) {
        tell("{\"error\": \"group: too many, the same again, or no path or kind\"}\n");
        return;
    }
    memset(g, 0, sizeof *g);
    g->used = 1;
    snprintf(g->name, sizeof g->name, "%s", words[1]);
    snprintf(g->path, sizeof g->path, "%s", path);
    snprintf(g->header, sizeof g->header, "%s", header ? header : "");
    g->websocket = strcmp(kind, "ws") == 0;
    g->port = (int)number(words, count, "port", 80);
    g->rcvbuf = (int)number(words, count, "rcvbuf", 0);
    g->sparse = (int)number(words, count, "sparse", 0);
    tell("{}\n");
}

static void tell_stats(struct group *g) {
    uint64_t behind = 0;
    int64_t least = INT64_MAX, most = 0;
    for (int i = 0; i < client_count; i++) {
        struct client *c = clients[i];
        if (c->group != g || c->state != OPEN) continue;
        if (c->expected - 1 < least) least = c->expected - 1;
        if (c->expected - 1 > most) most = c->expected - 1;
    }
    if (least == INT64_MAX) least = 0;
    for (int i = 0; i < client_count; i++)
        if (clients[i]->group == g && clients[i]->state == OPEN) behind += (uint64_t)(most - clients[i]->expected + 1);
    printf("{\"clients\": %d, \"open\": %d, \"closed\": %d, \"failed\": %d, \"events\": %llu, \"others\": %llu, \"lost\": %llu, "
           "\"repeated\": %llu, \"bytes\": %llu, \"recvs\": %llu, \"least\": %lld, \"most\": %lld, \"behind\": %llu, ",
           g->clients, g->open, g->closed, g->failed, (unsigned long long)g->events, (unsigned long long)g->others,
           (unsigned long long)g->lost, (unsigned long long)g->repeated, (unsigned long long)g->bytes,
           (unsigned long long)g->recvs, (long long)least, (long long)most, (unsigned long long)behind);
    print_histogram(stdout, "latency_us", &g->latency);
    printf(", ");
    print_histogram(stdout, "opening_us", &g->opening);
    tell("}\n");
}

static void reset(void) {
    for (int i = 0; i < client_count; i++) clients[i]->expected = 1;
    for (int i = 0; i < 32; i++) {
        struct group *g = &groups[i];
        memset(&g->latency, 0, sizeof g->latency);
        g->events = g->others = g->lost = g->repeated = g->bytes = g->recvs = 0;
    }
}

static void listen_or_not(struct group *g, int stalled) {
    g->stalled = stalled;
    for (int i = 0; i < client_count; i++)
        if (clients[i]->group == g && clients[i]->state == OPEN) watch(clients[i], stalled ? 0 : EPOLLIN, EPOLL_CTL_MOD);
}

static void forget(struct group *g) {
    int left = 0;
    for (int i = 0; i < client_count; i++) {
        if (clients[i]->group == g) shut(clients[i]), free(clients[i]);
        else clients[left++] = clients[i];
    }
    client_count = left;
    g->used = 0;
}

static void next_event(void) {
    task.current++;
    task.remaining = 0;
    for (int i = 0; i < 32; i++)
        if (groups[i].used && !groups[i].stalled) task.remaining += groups[i].open;
    ask("one %ld %d %s", task.current, task.size, task.extra);
}

static void obey(char *text) {
    char *words[16];
    int count = split(text, words, 16);
    if (count == 0) return;
    const char *order = words[0];
    struct group *g = count > 1 ? find(words[1]) : NULL;
    task.began = now_ns();
    task.deadline = task.began + (int64_t)(number(words, count, "timeout", 60) * 1e9);
    if (strcmp(order, "group") == 0 && count >= 5) new_group(words, count);
    else if (strcmp(order, "reset") == 0) reset(), tell("{}\n");
    else if (strcmp(order, "each") == 0 && count >= 3) {
        const char *extra = option(words, count, "extra");
        snprintf(task.extra, sizeof task.extra, "%s", extra ? extra : "");
        task.kind = EACH, task.count = atol(words[1]), task.size = atoi(words[2]), task.current = 0, task.last = task.began;
        next_event();
    } else if (!g) tell("{\"error\": \"no such order or group: %s\"}\n", order);
    else if (strcmp(order, "connect") == 0 && count >= 3) {
        task.kind = CONNECT, task.group = g, task.count = atol(words[2]), task.warmed = task.began;
        task.window = (int)number(words, count, "window", 64);
        task.started = task.opened = task.failed = 0;
    } else if (strcmp(order, "wait") == 0 && count >= 3) task.kind = WAIT, task.group = g, task.count = atol(words[2]);
    else if (strcmp(order, "stall") == 0) listen_or_not(g, 1), tell("{}\n");
    else if (strcmp(order, "resume") == 0) listen_or_not(g, 0), tell("{}\n");
    else if (strcmp(order, "stats") == 0) tell_stats(g);
    else if (strcmp(order, "close") == 0) forget(g), tell("{}\n");
    else tell("{\"error\": \"no such order: %s\"}\n", order);
}

/* Every client that is still there has got the number waited for. */
static int all_there(void) {
    for (int i = 0; i < client_count; i++)
        if (clients[i]->group == task.group && clients[i]->state == OPEN && clients[i]->expected <= task.count) return 0;
    return 1;
}

/* A further client is to connect. */
static int may_start(void) {
    return task.kind == CONNECT && task.started < task.count && task.started - task.opened - task.failed < task.window;
}

/* Go on with the order under way; it is answered when it is done or its time is over. */
static void go_on(void) {
    int64_t now = now_ns();
    int late = now > task.deadline, done = 0;
    double seconds = (double)(now - task.began) / 1e9;
    if (task.kind == CONNECT) {
        /* A few at a time: to connect a thousand takes 20 ms, in which those that listen would read nothing. */
        for (int few = 0; few < A_FEW && may_start(); few++) start_client(task.group), task.started++;
        if (now - task.warmed > 300000000) task.warmed = now, ask("one 0 220 ");
        done = task.opened + task.failed >= task.count;
        if (done || late)
            tell("{\"opened\": %ld, \"failed\": %ld, \"seconds\": %.6f, \"late\": %d}\n", task.opened, task.failed, seconds, !done);
    } else if (task.kind == EACH) {
        while (task.remaining <= 0 && task.current < task.count && task.current >= 0) next_event();
        done = task.remaining <= 0;
        if (done || late)
            tell("{\"asked\": %ld, \"seconds\": %.6f, \"late\": %d}\n", task.current, (double)(task.last - task.began) / 1e9, !done);
    } else if (task.kind == WAIT) {
        done = all_there();
        if (done || late) tell("{\"seconds\": %.6f, \"late\": %d}\n", seconds, !done);
    }
    if (done || late) task.kind = NOTHING;
}

int main(int count, char **arguments) {
    if (count != 2) return fprintf(stderr, "usage: load PUBLISHER_PORT\n"), 2;
    struct sockaddr_in to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1])),
                                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    publisher = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(publisher, (void *)&to, sizeof to) < 0) die("connect");
    epoll = epoll_create1(0);
    struct epoll_event ends[512], e = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &e) < 0) die("epoll_ctl on standard input");
    char text[4096];
    size_t filled = 0;
    for (;;) {
        int many = epoll_wait(epoll, ends, 512, task.kind == NOTHING ? -1 : may_start() ? 0 : 20);
        for (int i = 0; i < many; i++) {
            if (ends[i].data.ptr) {
                ready(ends[i].data.ptr);
                continue;
            }
            ssize_t got = read(0, text + filled, sizeof text - 1 - filled);
            if (got <= 0) return 0;
            text[filled += (size_t)got] = 0;
        }
        for (char *end; task.kind == NOTHING && (end = memchr(text, '\n', filled));) {
            size_t length = (size_t)(end - text) + 1;
            char order[4096];
            memcpy(order, text, length);
            order[length] = 0;
            memmove(text, text + length, filled -= length);
            obey(order);
            if (task.kind != NOTHING) break;
        }
        if (task.kind != NOTHING) go_on();
    }
}
