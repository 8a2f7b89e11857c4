/* What the programs of the benchmark share: a clock, a histogram of latencies, words of orders, errors. */
#ifndef COMMON_H
#define COMMON_H
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, ": %s\n", strerror(errno));
    exit(1);
}

/* Log-linear: 64 buckets for each power of two of nanoseconds, so a value is told within 1.6 %. */
#define SUB 64
#define BUCKETS (SUB * 59)
struct histogram {
    uint64_t bucket[BUCKETS], count;
    int64_t max;
    double sum;
};

static inline void record(struct histogram *h, int64_t ns) {
    uint64_t v = ns < 0 ? 0 : (uint64_t)ns;
    int power = v < SUB ? 0 : 63 - __builtin_clzll(v) - 5;
    h->bucket[power == 0 ? v : (uint64_t)power * SUB + ((v >> power) & (SUB - 1))]++;
    h->count++;
    h->sum += (double)v;
    if ((int64_t)v > h->max) h->max = (int64_t)v;
}

/* The value, in microseconds, that the share q of all values does not exceed (nearest rank). */
static inline double quantile(const struct histogram *h, double q) {
    uint64_t rank = (uint64_t)(q * (double)h->count), seen = 0;
    if ((double)rank < q * (double)h->count || rank == 0) rank++;
    for (int i = 0; i < BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= rank) {
            int power = i / SUB;
            double value = power == 0 ? i : (double)((uint64_t)(i % SUB) << power) + (double)(1ull << power) / 2;
            return (value > (double)h->max ? (double)h->max : value) / 1000;
        }
    }
    return (double)h->max / 1000;
}

static inline void print_histogram(FILE *to, const char *name, const struct histogram *h) {
    if (h->count == 0) {
        fprintf(to, "\"%s\": null", name);
        return;
    }
    fprintf(to, "\"%s\": {\"count\": %llu, \"mean\": %.1f, \"p50\": %.1f, \"p90\": %.1f, \"p95\": %.1f, \"p99\": %.1f, "
            "\"max\": %.1f}", name, (unsigned long long)h->count, h->sum / (double)h->count / 1000, quantile(h, .5),
            quantile(h, .9), quantile(h, .95), quantile(h, .99), (double)h->max / 1000);
}

/* The value of word "name=value" among the words of an order, or NULL. */
static inline const char *option(char **words, int count, const char *name) {
    size_t length = strlen(name);
    for (int i = 0; i < count; i++)
        if (strncmp(words[i], name, length) == 0 && words[i][length] == '=') return words[i] + length + 1;
    return NULL;
}

static inline double number(char **words, int count, const char *name, double otherwise) {
    const char *text = option(words, count, name);
    return text ? atof(text) : otherwise;
}

/* Split a line at spaces, in place; return how many words. */
static inline int split(char *line, char **words, int most) {
    int count = 0;
    for (char *word = strtok(line, " \r\n"); word && count < most; word = strtok(NULL, " \r\n")) words[count++] = word;
    return count;
}
#endif
