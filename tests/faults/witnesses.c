/* Thousands of clients of several processes that serve one log, in one loop; each keeps an account of all it got.
 *
 *   witnesses      orders come by standard input, one a line; each is answered by one line of JSON
 *
 *   connect COUNT PORT,PORT,… SECONDS    until COUNT clients have a stream, spread over the ports
 *   wait ID SECONDS                      until the last id of every client is this one
 *   calm                                 the longest time for which any client got no event, since the order before
 *   dump PATH                            write the accounts
 *
 * A client whose stream ends, or cannot be opened, goes to another port with its Last-Event-ID. An account has a line
 * for a client, and then one for each run of events with increasing ids: its first and last id, how many there are, and
 * a sum over them that depends on what and under which id each was. All that begins with "hybrid_" or is no event is
 * written as it came.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { AWAY, CONNECTING, HEAD, BODY };
enum { HEAD_MS = 20000, MAX_PORTS = 16 };

struct text { char *at; size_t length, room; };
struct id { uint64_t generation, number; };

struct client {
    int fd, state, port, connections, refused;
    int64_t due, last_event, silence;
    struct id last, first, upto;
    uint64_t count, sum;
    int has_id;
    struct text carry, account;
};

static struct client *clients;
static int count, port_count, ports[MAX_PORTS], epoll;
static uint32_t crc_table[256];
static char buffer[1 << 18];
static int64_t now;

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void add(struct text *t, const char *data, size_t length) {
    if (t->length + length > t->room) {
        t->room = (t->length + length) * 2 + 256;
        t->at = realloc(t->at, t->room);
    }
    memcpy(t->at + t->length, data, length);
    t->length += length;
}

static uint32_t crc(const char *data, size_t length) {
    uint32_t value = ~0u;
    while (length--) value = crc_table[(value ^ (uint8_t)*data++) & 255] ^ (value >> 8);
    return ~value;
}

static int later(struct id a, struct id b) {
    return a.generation != b.generation ? a.generation > b.generation : a.number > b.number;
}

static void end_run(struct client *c) {
    if (!c->count) return;
    char line[160];
    int length = snprintf(line, sizeof line, "run %llu-%llu %llu-%llu %llu %llu\n",
                          (unsigned long long)c->first.generation, (unsigned long long)c->first.number,
                          (unsigned long long)c->upto.generation, (unsigned long long)c->upto.number,
                          (unsigned long long)c->count, (unsigned long long)c->sum);
    add(&c->account, line, (size_t)length);
    c->count = c->sum = 0;
}

/* One whole block, without the empty line at its end. */
static void take(struct client *c, const char *block, const char *end) {
    const char *id = NULL, *name = NULL, *data = NULL;
    size_t id_length = 0, name_length = 0, data_length = 0;
    int plain = 1;
    for (const char *line = block; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        if (stop - line > 4 && !memcmp(line, "id: ", 4)) id = line + 4, id_length = (size_t)(stop - id);
        else if (stop - line > 7 && !memcmp(line, "event: ", 7)) name = line + 7, name_length = (size_t)(stop - name);
        else if (stop - line >= 6 && !memcmp(line, "data: ", 6)) {
            if (data) plain = 0;
            data = line + 6, data_length = (size_t)(stop - data);
        } else plain = 0;
        line = stop + 1;
    }
    struct id at = {0, 0};
    if (id) {
        char *rest;
        at.generation = strtoull(id, &rest, 10);
        if (*rest == '-') at.number = strtoull(rest + 1, NULL, 10);
        c->last = at, c->has_id = 1;
    }
    (void)id_length;
    if (!id || !name || !data || !plain || (name_length >= 7 && !memcmp(name, "hybrid_", 7))) {
        end_run(c);
        char line[32];
        int length = snprintf(line, sizeof line, "block %zu\n", (size_t)(end - block));
        add(&c->account, line, (size_t)length);
        add(&c->account, block, (size_t)(end - block));
        add(&c->account, "\n", 1);
        return;
    }
    if (now - c->last_event > c->silence) c->silence = now - c->last_event;
    c->last_event = now;
    if (c->count && (at.generation != c->upto.generation || !later(at, c->upto))) end_run(c);
    if (!c->count) c->first = at;
    c->upto = at;
    c->count++;
    c->sum += (((uint64_t)crc(name, name_length) << 32) + crc(data, data_length)) * (2 * at.number + 1) + at.generation;
}

static void hang_up(struct client *c) {
    if (c->state == AWAY) return;
    close(c->fd);
    c->state = AWAY;
    c->carry.length = 0; /* what is not complete was not dispatched */
    c->due = now + 100 + rand() % 400;
    if (port_count > 1) c->port = (c->port + 1 + rand() % (port_count - 1)) % port_count;
}

static void open_stream(struct client *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)ports[c->port]),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) { perror("socket"); exit(1); }
    c->state = CONNECTING;
    c->due = now + HEAD_MS;
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) hang_up(c);
}

static void ask(struct client *c) {
    char request[256], last[80] = "";
    if (c->has_id)
        snprintf(last, sizeof last, "Last-Event-ID: %llu-%llu\r\n", (unsigned long long)c->last.generation,
                 (unsigned long long)c->last.number);
    int length = snprintf(request, sizeof request, "GET /api/events/stream HTTP/1.0\r\nHost: 127.0.0.1\r\n%s\r\n", last);
    if (send(c->fd, request, (size_t)length, MSG_NOSIGNAL) != length) { hang_up(c); return; }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
    c->state = HEAD;
}

static void blocks(struct client *c, char *data, size_t length) {
    struct text *carry = &c->carry;
    if (carry->length) {
        add(carry, data, length);
        data = carry->at, length = carry->length;
    }
    char *end = data + length, *at = data;
    if (c->state == HEAD) {
        char *stop = memmem(at, length, "\r\n\r\n", 4);
        if (stop && memcmp(at + 9, "200", 3)) { c->refused++; hang_up(c); return; }
        if (stop) c->state = BODY, c->connections++, at = stop + 4;
    }
    if (c->state == BODY)
        for (char *stop; (stop = memmem(at, (size_t)(end - at), "\n\n", 2)); at = stop + 2) take(c, at, stop);
    size_t rest = (size_t)(end - at);
    if (carry->length) {
        memmove(carry->at, at, rest);
        carry->length = rest;
    } else add(carry, at, rest);
}

static void happened(struct client *c) {
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) hang_up(c);
        else ask(c);
        return;
    }
    ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
    if (got > 0) blocks(c, buffer, (size_t)got);
    else if (got == 0 || errno != EAGAIN) hang_up(c);
}

static void turn(int wait_ms) {
    static int64_t looked;
    struct epoll_event events[512];
    int found = epoll_wait(epoll, events, 512, wait_ms);
    now = now_ms();
    for (int i = 0; i < found; i++) if (events[i].data.ptr) happened(events[i].data.ptr);
    if (now < looked + 10) return;
    looked = now;
    for (int i = 0; i < count; i++) {
        struct client *c = &clients[i];
        if (c->state == AWAY && now >= c->due) open_stream(c);
        else if ((c->state == CONNECTING || c->state == HEAD) && now >= c->due) hang_up(c);
    }
}

static int streams(void) {
    int found = 0;
    for (int i = 0; i < count; i++) found += clients[i].state == BODY && clients[i].has_id;
    return found;
}

static void stand(const char *done) {
    int connections = 0, refused = 0;
    struct client *worst = clients;
    for (int i = 0; i < count; i++) {
        struct client *c = &clients[i];
        connections += c->connections, refused += c->refused;
        if (c->silence > worst->silence) worst = c;
    }
    printf("{\"done\": %s, \"clients\": %d, \"streams\": %d, \"connections\": %d, \"refused\": %d, \"silence_ms\": %lld, \"of\": "
           "{\"client\": %ld, \"state\": %d, \"port\": %d, \"connections\": %d, \"refused\": %d, \"last\": %llu}}\n",
           done, count, streams(), connections, refused, (long long)worst->silence, (long)(worst - clients), worst->state,
           ports[worst->port], worst->connections, worst->refused, (unsigned long long)worst->last.number);
    fflush(stdout);
}

static int there(struct id wanted) {
    for (int i = 0; i < count; i++)
        if (clients[i].last.generation != wanted.generation || clients[i].last.number != wanted.number) return 0;
    return 1;
}

static void order(char *line) {
    char *word = strtok(line, " \n");
    if (!word) return;
    if (!strcmp(word, "connect")) {
        count = atoi(strtok(NULL, " "));
        char *list = strtok(NULL, " ");
        int64_t until = now + 1000 * atoi(strtok(NULL, " "));
        for (char *port = strtok(list, ","); port && port_count < MAX_PORTS; port = strtok(NULL, ","))
            ports[port_count++] = atoi(port);
        clients = calloc((size_t)count, sizeof *clients);
        for (int i = 0; i < count; i++) clients[i].port = i % port_count, clients[i].due = now + i;
        while (streams() < count && now < until) turn(10);
        for (int i = 0; i < count; i++) clients[i].last_event = now;
        stand(streams() == count ? "true" : "false");
    } else if (!strcmp(word, "wait")) {
        struct id wanted;
        char *rest;
        wanted.generation = strtoull(strtok(NULL, " "), &rest, 10);
        wanted.number = strtoull(rest + 1, NULL, 10);
        int64_t until = now + 1000 * atoi(strtok(NULL, " "));
        while (!there(wanted) && now < until) turn(10);
        stand(there(wanted) ? "true" : "false");
    } else if (!strcmp(word, "calm")) {
        for (int i = 0; i < count; i++)
            if (now - clients[i].last_event > clients[i].silence) clients[i].silence = now - clients[i].last_event;
        stand("true");
        for (int i = 0; i < count; i++) clients[i].silence = 0;
    } else if (!strcmp(word, "dump")) {
        FILE *file = fopen(strtok(NULL, " \n"), "w");
        for (int i = 0; i < count; i++) {
            end_run(&clients[i]);
            fprintf(file, "client %d\n", i);
            fwrite(clients[i].account.at, 1, clients[i].account.length, file);
        }
        fclose(file);
        stand("true");
    }
}

int main(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ 0xedb88320 : value >> 1;
        crc_table[i] = value;
    }
    epoll = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &e);
    fcntl(0, F_SETFL, O_NONBLOCK);
    now = now_ms();
    char line[1024];
    size_t length = 0;
    for (;;) {
        turn(10);
        ssize_t got = read(0, line + length, sizeof line - 1 - length);
        if (got == 0) return 0;
        if (got < 0) continue;
        length += (size_t)got;
        line[length] = 0;
        char *stop = strchr(line, '\n');
        if (!stop) continue;
        length = 0; /* one order at a time: the next comes when this one is answered */
        order(line);
    }
}
