/* Sockets: non-blocking, level-triggered epoll, one wait for all of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

/* A peer that takes nothing for this long a queue is not slow but stuck. */
#define MOST_UNSENT_BYTES (8u << 20)

static int epoll_fd = -1;

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

uint64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * NS_PER_S + at.tv_nsec;
}

uint64_t processor_ns(int pid)
{
    clockid_t clock;
    struct timespec spent;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &spent) != 0)
        fail("process %d has ended", pid);
    return spent.tv_sec * NS_PER_S + spent.tv_nsec;
}

int dial(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = options.host ? (in_addr_t)options.host : htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        fail("socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect to port %d: %s", port, strerror(errno));
    return fd;
}

void set_no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void watch(struct connection *connection)
{
    if (epoll_fd < 0)
        epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void watch_writable(struct connection *connection)
{
    bool on = connection->eager || unsent(connection) > 0;
    if (connection->wants_write == on)
        return;
    connection->wants_write = on;
    struct epoll_event event = {.events = on ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = connection};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

unsigned char *reserve(struct connection *connection, size_t bytes)
{
    if (unsent(connection) == 0)
        connection->start = connection->end = 0;
    if (connection->end + bytes > MOST_UNSENT_BYTES)
        fail("%s: %zu bytes wait to be written", connection->kind == CLIENT ? "client" : "upstream",
             unsent(connection));
    if (connection->end + bytes > connection->capacity) {
        connection->capacity = (connection->end + bytes) * 2;
        connection->out = realloc(connection->out, connection->capacity);
    }
    return connection->out + connection->end;
}

void push(struct connection *connection, size_t bytes)
{
    connection->end += bytes;
    flush(connection);
}

/* Hand to the kernel what it takes at once; how much that was. */
static long transmit(struct connection *connection)
{
    const unsigned char *data = connection->out + connection->start;
    if (connection->tls != NULL)
        return tls_send(connection, data, unsent(connection));
    ssize_t sent = send(connection->fd, data, unsent(connection), MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    if (errno != EAGAIN && errno != EINPROGRESS && errno != ENOTCONN)
        fail("write: %s", strerror(errno));
    return 0;
}

void flush(struct connection *connection)
{
    while (unsent(connection) > 0) {
        long sent = transmit(connection);
        if (sent == 0)
            break;
        connection->start += sent;
    }
    watch_writable(connection);
}

void set_eager(struct connection *connection, bool eager)
{
    connection->eager = eager;
    watch_writable(connection);
}

long pull(struct connection *connection, unsigned char *into, size_t bytes)
{
    if (connection->tls != NULL)
        return tls_receive(connection, into, bytes);
    ssize_t got = recv(connection->fd, into, bytes, 0);
    if (got > 0)
        return got;
    if (got < 0 && errno == EAGAIN)
        return 0;
    return -1;
}

void forget(struct connection *connection)
{
    if (connection->tls != NULL)
        tls_close(connection);
    close(connection->fd);
    connection->fd = -1;
    connection->start = connection->end = 0;
}

static void handle(struct connection *connection, uint32_t events)
{
    if (events & EPOLLOUT) {
        if (connection->kind == CLIENT)
            client_writable((struct client *)connection);
        else if (connection->kind == UPSTREAM)
            upstream_writable((struct upstream *)connection);
        else
            flush(connection);
    }
    if (connection->fd < 0 || !(events & ~EPOLLOUT))
        return;
    switch (connection->kind) {
    case LISTENER:
        upstream_accept();
        break;
    case UPSTREAM:
        upstream_readable((struct upstream *)connection);
        break;
    case CLIENT:
        client_readable((struct client *)connection);
        break;
    case STUB_LISTENER:
        stub_accept(connection);
        break;
    case STUB:
        stub_readable(connection);
        break;
    }
}

void wait_events(uint64_t until_ns)
{
    struct epoll_event events[256];
    uint64_t now = now_ns();
    uint64_t wait = until_ns > now && !options.spin ? until_ns - now : 0;
    struct timespec timeout = {wait / NS_PER_S, wait % NS_PER_S};
    int count = epoll_pwait2(epoll_fd, events, 256, until_ns == NEVER ? NULL : &timeout, NULL);
    for (int i = 0; i < count; i++)
        handle(events[i].data.ptr, events[i].events);
}
