/* The ceiling: mutual TLS by OpenSSL on epoll, and one fixed answer to each KMIP frame. No KMIP, no keys, no storage.
 *
 *   bare PORT CERT KEY CA ANSWER
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
    int fd, open;
    SSL *ssl;
    size_t filled;
    unsigned char buffer[65536];
};

static unsigned char answer[65536];
static size_t answer_length;

static void finish(struct connection *c) {
    if (c->open) SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
    free(c);
    ERR_clear_error();
}

static void serve(struct connection *c) {
    if (!c->open) {
        int result = SSL_accept(c->ssl);
        if (result != 1) {
            if (SSL_get_error(c->ssl, result) != SSL_ERROR_WANT_READ) finish(c);
            return;
        }
        c->open = 1;
    }
    for (;;) {
        int got = SSL_read(c->ssl, c->buffer + c->filled, sizeof c->buffer - c->filled);
        if (got <= 0) {
            if (SSL_get_error(c->ssl, got) != SSL_ERROR_WANT_READ) finish(c);
            return;
        }
        c->filled += got;
        uint32_t length;
        memcpy(&length, c->buffer + 4, 4);
        if (c->filled < 8 || c->filled < 8 + (size_t)ntohl(length)) continue;
        c->filled = 0;
        if (SSL_write(c->ssl, answer, answer_length) <= 0) {
            finish(c);
            return;
        }
    }
}

int main(int count, char **arguments) {
    if (count != 6) return 2;
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM");
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (SSL_CTX_use_certificate_chain_file(context, arguments[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, arguments[3], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(context, arguments[4], NULL) != 1) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    FILE *file = fopen(arguments[5], "rb");
    if (!file) return 1;
    answer_length = fread(answer, 1, sizeof answer, file);
    fclose(file);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0) return 1;
    int epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int found = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < found; i++) {
            if (events[i].data.ptr) {
                serve(events[i].data.ptr);
                continue;
            }
            for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                struct connection *c = calloc(1, sizeof *c);
                c->fd = fd;
                c->ssl = SSL_new(context);
                SSL_set_fd(c->ssl, fd);
                SSL_set_accept_state(c->ssl);
                event.data.ptr = c;
                epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
