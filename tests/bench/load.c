/* Closed-loop KMIP load over mutual TLS: each connection has one request outstanding. Prints one JSON object.
 *
 *   keep     the connections stay; an operation is one request and its answer
 *   connect  an operation is a TCP connection, a full handshake, one request, its answer, and the close
 *   hold     opens the connections, prints "open", and keeps them until standard input ends
 *
 * An answer counts only if it is whole and its Result Status (tag 42007F) is Success.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum phase { CONNECTING, HANDSHAKING, WAITING };

struct connection {
    int fd;
    enum phase phase;
    SSL *ssl;
    double begun;
    size_t filled;
    unsigned char answer[262144];
};

static struct {
    const char *host, *port, *cert, *key, *ca, *frame, *mode, *tls;
    int connections, counter_at;
    double warmup, seconds;
    long operations;
} option = {.host = "127.0.0.1", .tls = "1.2", .mode = "keep", .connections = 1, .counter_at = -1, .warmup = 0.5, .seconds = 2};

static unsigned char request[65536];
static size_t request_length;
static struct sockaddr_in server;
static SSL_CTX *context;
static int epoll_fd;
static bool reconnect, measuring;
static uint64_t counter;
static double *latency;
static size_t latencies, capacity;
static long errors, opened;
static char suite[64];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) < 0) die("epoll_ctl");
}

static void begin(struct connection *c) {
    int on = 1;
    c->begun = now();
    c->filled = 0;
    c->phase = CONNECTING;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS) die("connect");
    c->ssl = SSL_new(context);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_connect_state(c->ssl);
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void end(struct connection *c, bool clean) {
    if (clean) SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
}

static void failed(struct connection *c, const char *where) {
    if (++errors <= 3) {
        fprintf(stderr, "load: %s failed: ", where);
        ERR_print_errors_fp(stderr);
        fputc('\n', stderr);
    }
    if (errors > 1000) exit(1);
    ERR_clear_error();
    end(c, false);
    begin(c);
}

static void ask(struct connection *c) {
    if (!reconnect) c->begun = now();
    if (option.counter_at >= 0) {
        char digits[17];
        snprintf(digits, sizeof digits, "%08llu", (unsigned long long)counter++);
        memcpy(request + option.counter_at, digits, 8);
    }
    if (SSL_write(c->ssl, request, request_length) != (int)request_length) failed(c, "write");
}

static bool success(const struct connection *c, size_t length) {
    static const unsigned char status[12] = {0x42, 0x00, 0x7f, 0x05, 0, 0, 0, 4, 0, 0, 0, 0};
    return memmem(c->answer, length, status, sizeof status) != NULL;
}

static void answered(struct connection *c, size_t length) {
    if (!success(c, length)) errors++;
    else if (measuring) {
        if (latencies == capacity) {
            capacity = capacity ? capacity * 2 : 65536;
            latency = realloc(latency, capacity * sizeof *latency);
        }
        latency[latencies++] = now() - c->begun;
    }
    c->filled = 0;
    /* A request left behind would still be worked on while the next server is measured. */
    if (option.operations && (long)latencies >= option.operations) return;
    if (reconnect) {
        end(c, true);
        begin(c);
    } else ask(c);
}

static void handshake(struct connection *c) {
    int result = SSL_do_handshake(c->ssl);
    if (result == 1) {
        c->phase = WAITING;
        if (!suite[0]) snprintf(suite, sizeof suite, "%s %s", SSL_get_version(c->ssl), SSL_get_cipher(c->ssl));
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        opened++;
        if (strcmp(option.mode, "hold")) ask(c);
        return;
    }
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ: watch(c, EPOLL_CTL_MOD, EPOLLIN); break;
    case SSL_ERROR_WANT_WRITE: watch(c, EPOLL_CTL_MOD, EPOLLOUT); break;
    default: failed(c, "handshake");
    }
}

static void ready(struct connection *c) {
    if (c->phase == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            failed(c, "connect");
            return;
        }
        c->phase = HANDSHAKING;
    }
    if (c->phase == HANDSHAKING) {
        handshake(c);
        return;
    }
    for (;;) {
        int got = SSL_read(c->ssl, c->answer + c->filled, sizeof c->answer - c->filled);
        if (got <= 0) {
            if (SSL_get_error(c->ssl, got) != SSL_ERROR_WANT_READ) failed(c, "read");
            return;
        }
        c->filled += got;
        if (c->filled < 8) continue;
        uint32_t length;
        memcpy(&length, c->answer + 4, 4);
        if (c->filled >= 8 + (size_t)ntohl(length)) {
            answered(c, c->filled);
            return;
        }
    }
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double quantile(double share) { return latencies ? latency[(size_t)(share * (latencies - 1))] * 1e3 : 0; }

static void set_up(void) {
    context = SSL_CTX_new(TLS_client_method());
    int version = strcmp(option.tls, "1.3") ? TLS1_2_VERSION : TLS1_3_VERSION;
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_load_verify_locations(context, option.ca, NULL) != 1) die(option.ca);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_use_certificate_chain_file(context, option.cert) != 1) die(option.cert);
    if (SSL_CTX_use_PrivateKey_file(context, option.key, SSL_FILETYPE_PEM) != 1) die(option.key);
    if (option.frame) {
        FILE *file = fopen(option.frame, "rb");
        if (!file) die(option.frame);
        request_length = fread(request, 1, sizeof request, file);
        fclose(file);
    }
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(option.port));
    inet_pton(AF_INET, option.host, &server.sin_addr);
    epoll_fd = epoll_create1(0);
    reconnect = !strcmp(option.mode, "connect");
}

static bool parse(int count, char **arguments) {
    static const struct option known[] = {
        {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"cert", 1, 0, 'c'}, {"key", 1, 0, 'k'}, {"ca", 1, 0, 'a'},
        {"frame", 1, 0, 'f'}, {"mode", 1, 0, 'm'}, {"tls", 1, 0, 't'}, {"connections", 1, 0, 'n'}, {"warmup", 1, 0, 'w'},
        {"seconds", 1, 0, 's'}, {"counter-at", 1, 0, 'C'}, {"operations", 1, 0, 'o'}, {0, 0, 0, 0}};
    for (int letter; (letter = getopt_long(count, arguments, "", known, NULL)) != -1;) switch (letter) {
        case 'h': option.host = optarg; break;
        case 'p': option.port = optarg; break;
        case 'c': option.cert = optarg; break;
        case 'k': option.key = optarg; break;
        case 'a': option.ca = optarg; break;
        case 'f': option.frame = optarg; break;
        case 'm': option.mode = optarg; break;
        case 't': option.tls = optarg; break;
        case 'n': option.connections = atoi(optarg); break;
        case 'w': option.warmup = atof(optarg); break;
        case 's': option.seconds = atof(optarg); break;
        case 'C': option.counter_at = atoi(optarg); break;
        case 'o': option.operations = atol(optarg); break;
        default: return false;
        }
    return option.port && option.cert && option.key && option.ca;
}

int main(int count, char **arguments) {
    if (!parse(count, arguments)) return 2;
    set_up();
    struct connection *all = calloc(option.connections, sizeof *all);
    for (int i = 0; i < option.connections; i++) begin(&all[i]);
    bool hold = !strcmp(option.mode, "hold");
    double start = now(), from = start + option.warmup, until = from + option.seconds;
    struct epoll_event events[256];
    for (;;) {
        double moment = now();
        if (hold ? opened == option.connections : option.operations ? (long)latencies >= option.operations : moment >= until) break;
        if (!measuring && (moment >= from || option.operations)) {
            measuring = true;
            start = moment;
            puts("measuring");
            fflush(stdout);
        }
        int found = epoll_wait(epoll_fd, events, 256, 50);
        for (int i = 0; i < found; i++) ready(events[i].data.ptr);
    }
    double elapsed = now() - start;
    if (hold) {
        puts("open");
        fflush(stdout);
        while (getchar() != EOF) continue;
        return 0;
    }
    qsort(latency, latencies, sizeof *latency, ascending);
    printf("{\"operations\":%zu,\"seconds\":%.4f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f,\"errors\":%ld,\"suite\":\"%s\"}\n",
           latencies, elapsed, quantile(0.5), quantile(0.99), quantile(1), errors, suite);
    return 0;
}
