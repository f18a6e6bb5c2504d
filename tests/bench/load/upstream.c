/* The media server behind gateway and proxy.
 *
 * It speaks no RTMP: both pass bytes unchanged. The first line of a connection, "ROLE CLIENT\n" in numbers,
 * says which client is at the other end and what it is for; after it come that client's records.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "load.h"

/* Records are written ahead of the kernel's socket buffer by one batch, never more. */
#define BATCH_BYTES (BATCH_RECORDS * RECORD_BYTES)

struct upstream {
    struct connection connection;
    enum role role;
    char line[24];                  /* the first line, until it is complete */
    size_t line_bytes;
    struct client *client;
    struct source source;
    struct sink sink;
};

int upstreams_open;
static struct connection listener = {.kind = LISTENER};

void upstream_setup(void)
{
    listener.fd = options.upstream_fd;
    watch(&listener);
}

void upstream_accept(void)
{
    int fd;
    while ((fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct upstream *upstream = calloc(1, sizeof *upstream);
        upstream->connection.kind = UPSTREAM;
        upstream->connection.fd = fd;
        set_no_delay(fd);
        watch(&upstream->connection);
        upstreams_open++;
    }
}

void upstream_send(struct upstream *upstream, uint64_t now)
{
    record_write(&upstream->source, reserve(&upstream->connection, RECORD_BYTES), now);
    push(&upstream->connection, RECORD_BYTES);
}

uint64_t upstream_sent(const struct upstream *upstream) { return upstream->source.next; }
uint64_t upstream_received(const struct upstream *upstream) { return upstream->sink.next; }

void upstream_flood(struct upstream *upstream, bool on) { set_eager(&upstream->connection, on); }

/* One batch for one event, so that nobody else starves. */
void upstream_writable(struct upstream *upstream)
{
    flush(&upstream->connection);
    if (!upstream->connection.eager || unsent(&upstream->connection) > 0)
        return;
    unsigned char *out = reserve(&upstream->connection, BATCH_BYTES);
    uint64_t now = now_ns();
    for (int i = 0; i < BATCH_RECORDS; i++)
        record_write(&upstream->source, out + i * RECORD_BYTES, now);
    push(&upstream->connection, BATCH_BYTES);
}

static void introduce(struct upstream *upstream)
{
    unsigned role, number;
    if (sscanf(upstream->line, "%u %u", &role, &number) != 2 || role >= ROLES
        || number >= (unsigned)client_count)
        fail("upstream: a connection began with something else than its role");
    upstream->role = role;
    upstream->client = &clients[number];
    if (upstream->client->upstream != NULL)
        fail("session %u has two upstream connections", number);
    upstream->client->upstream = upstream;
    upstream->source.stream = upstream->sink.stream = number;
}

/* Take the first line out of the bytes that came; how many it took. */
static size_t read_line(struct upstream *upstream, const unsigned char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (upstream->line_bytes == sizeof upstream->line - 1)
            fail("upstream: a connection began with something else than its role");
        upstream->line[upstream->line_bytes++] = data[i];
        if (data[i] == '\n') {
            introduce(upstream);
            return i + 1;
        }
    }
    return bytes;
}

void upstream_readable(struct upstream *upstream)
{
    static unsigned char data[READ_BYTES];
    long bytes = pull(&upstream->connection, data, sizeof data);
    if (bytes < 0) {
        forget(&upstream->connection);
        upstreams_open--;
        return;
    }
    size_t taken = upstream->client == NULL ? read_line(upstream, data, bytes) : 0;
    if (bytes - taken > 0)
        record_read(&upstream->sink, data + taken, bytes - taken, now_ns());
}
