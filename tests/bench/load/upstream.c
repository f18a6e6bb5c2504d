/* The media server behind gateway and proxy.
 *
 * It speaks no RTMP: both pass bytes unchanged. After a connection's introduction come that client's records.
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
    char introduction[INTRODUCTION_BYTES + 1]; /* until it is complete; a zero byte ends it */
    size_t introduced;                         /* how many bytes of it have come */
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

void introduction_write(unsigned char *out, unsigned role, unsigned client)
{
    memset(out, 0, INTRODUCTION_BYTES);
    snprintf((char *)out, INTRODUCTION_BYTES, "\x06%u %u", role, client);
}

static void introduce(struct upstream *upstream)
{
    unsigned role, number;
    if (sscanf(upstream->introduction, "\x06%u %u", &role, &number) != 2 || role >= ROLES
        || number >= (unsigned)client_count)
        fail("upstream: a connection began with something else than its role");
    upstream->role = role;
    upstream->client = &clients[number];
    if (upstream->client->upstream != NULL)
        fail("session %u has two upstream connections", number);
    upstream->client->upstream = upstream;
    upstream->source.stream = upstream->sink.stream = number;
}

/* Take the introduction out of the bytes that came; how many it took. */
static size_t take_introduction(struct upstream *upstream, const unsigned char *data, size_t bytes)
{
    size_t taken = INTRODUCTION_BYTES - upstream->introduced;
    if (taken > bytes)
        taken = bytes;
    memcpy(upstream->introduction + upstream->introduced, data, taken);
    upstream->introduced += taken;
    if (upstream->introduced == INTRODUCTION_BYTES)
        introduce(upstream);
    return taken;
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
    size_t taken = upstream->client == NULL ? take_introduction(upstream, data, bytes) : 0;
    if (bytes - taken > 0)
        record_read(&upstream->sink, data + taken, bytes - taken, now_ns());
}
