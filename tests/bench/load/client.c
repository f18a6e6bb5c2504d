/* The clients: RTMPT as FFmpeg speaks it, or the same bytes with nothing around them.
 *
 * An RTMPT client has one request under way at a time, except for librtmp, which sends and closes behind an
 * unfinished answer. Both use the bytes of an answer as they come; FFmpeg reads chunked answers too. A client
 * polls at once after an answer with data and pauses after an empty one. A publishing client sends each record as it comes; records that
 * come while a send waits for its answer ride together in the next one.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "load.h"

static const char *const PATHS[] = {"POST /open/1", "POST /send/", "POST /idle/", "POST /close/"};

/* Fields and their order as FFmpeg 5.1 sends them (captured). */
static const char FIELDS[] = " HTTP/1.1\r\nAccept: */*\r\nConnection: keep-alive\r\nHost: 127.0.0.1:";
static const char MORE_FIELDS[] = "\r\nIcy-MetaData: 1\r\nCache-Control: no-cache\r\n"
                                  "Content-type: application/x-fcs\r\nUser-Agent: Shockwave Flash\r\n\r\n";
/* The same of librtmp, as rtmpdump 2.4 sends them (captured). */
static const char LIBRTMP_FIELDS[] = " HTTP/1.1\r\nHost: 127.0.0.1:";
static const char MORE_LIBRTMP_FIELDS[] =
    "\r\nAccept: */*\r\nUser-Agent: Shockwave Flash\r\nConnection: Keep-Alive\r\n"
    "Cache-Control: no-cache\r\nContent-type: application/x-fcs\r\nContent-length: ";
/* Of a client that reads whole answers. */
static const char WHOLE_FIELDS[] = " HTTP/1.1\r\nUser-Agent: whole\r\nHost: 127.0.0.1:";
#define HEAD_BYTES 400

/* What waits behind an unanswered send; over it the session has fallen behind for good. */
#define MOST_WAITING_BYTES (1u << 20)

struct client *clients;
int client_count;
uint64_t answers;
bool clients_poll = true;
bool records_flow = false;

/* Clients that pause after an empty answer, in the order in which their pauses end. */
static struct client **pausing;
static size_t pausing_first, pausing_count;

void clients_setup(void)
{
    for (int role = 0; role < ROLES; role++)
        client_count += options.sessions[role];
    clients = calloc(client_count, sizeof *clients);
    pausing = calloc(client_count, sizeof *pausing);
    int number = 0;
    for (int role = 0; role < ROLES; role++) {
        for (int i = 0; i < options.sessions[role]; i++, number++) {
            struct client *client = &clients[number];
            client->connection = (struct connection){.kind = CLIENT, .fd = -1};
            client->role = role;
            client->number = client->source.stream = client->sink.stream = number;
            client->sink.down = true;
            client->command = NONE;
        }
    }
}

static unsigned char *put(unsigned char *out, const char *text, size_t bytes)
{
    memcpy(out, text, bytes);
    return out + bytes;
}

static unsigned char *put_number(unsigned char *out, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = '0' + number % 10;
        number /= 10;
    } while (number > 0);
    return put(out, digits + at, sizeof digits - at);
}

static unsigned char *put_fields(unsigned char *out, size_t body_bytes)
{
    static const char *const first[] = {FIELDS, LIBRTMP_FIELDS, WHOLE_FIELDS};
    out = put(out, first[options.program], strlen(first[options.program]));
    out = put_number(out, options.port);
    if (options.program == LIBRTMP) {
        out = put(out, MORE_LIBRTMP_FIELDS, sizeof MORE_LIBRTMP_FIELDS - 1);
        out = put_number(out, body_bytes);
        return put(out, "\r\n\r\n", 4);
    }
    out = put(out, "\r\nContent-Length: ", 18);
    out = put_number(out, body_bytes);
    if (options.program == WHOLE)
        return put(out, "\r\n\r\n", 4);
    return put(out, MORE_FIELDS, sizeof MORE_FIELDS - 1);
}

static void asked(struct client *client, int command)
{
    if (client->command == NONE)
        client->command = command;
    else if (client->behind_count == BEHIND)
        fail("session %u: %d requests wait behind an answer", client->number, BEHIND);
    else
        client->behind[client->behind_count++] = command;
}

static void request(struct client *client, int command, const unsigned char *body, size_t bytes)
{
    unsigned char *start = reserve(&client->connection, HEAD_BYTES + bytes), *out = start;
    out = put(out, PATHS[command], strlen(PATHS[command]));
    if (command != OPEN) {
        out = put(out, client->session_id, client->session_id_bytes);
        *out++ = '/';
        out = put_number(out, client->sequence++);
    }
    out = put_fields(out, bytes);
    asked(client, command);
    if (options.two_segments) {
        push(&client->connection, out - start);
        out = start = reserve(&client->connection, bytes);
    }
    memcpy(out, body, bytes);
    push(&client->connection, out + bytes - start);
}

static void poll_again(struct client *client) { request(client, IDLE, (const unsigned char *)"", 1); }

void client_open(struct client *client)
{
    client->connection.fd = dial(options.port);
    if (!options.two_segments)
        set_no_delay(client->connection.fd);
    if (options.tls)
        tls_connect(&client->connection);
    watch(&client->connection);
    if (options.rtmpt) {
        request(client, OPEN, (const unsigned char *)"", 1);
        return;
    }
    unsigned char *out = reserve(&client->connection, INTRODUCTION_BYTES);
    introduction_write(out, client->role, client->number);
    push(&client->connection, INTRODUCTION_BYTES);
    client->running = true;
}

bool client_ready(const struct client *client)
{
    return client->running && (client->upstream != NULL || options.bare);
}

static unsigned char *wait_in_body(struct client *client, size_t bytes)
{
    if (client->waiting + bytes > MOST_WAITING_BYTES)
        fail("session %u: %zu bytes wait behind an unanswered send", client->number, client->waiting);
    if (client->waiting + bytes > client->body_capacity) {
        client->body_capacity = (client->waiting + bytes) * 2;
        client->body = realloc(client->body, client->body_capacity);
    }
    unsigned char *out = client->body + client->waiting;
    client->waiting += bytes;
    return out;
}

static void send_waiting(struct client *client)
{
    if (client->command != NONE || client->waiting == 0)
        return;
    request(client, SEND, client->body, client->waiting);
    client->waiting = 0;
}

void client_send(struct client *client, uint64_t now)
{
    if (options.rtmpt) {
        record_write(&client->source, wait_in_body(client, RECORD_BYTES), now);
        if (client->waiting >= (size_t)options.batch * RECORD_BYTES || !records_flow)
            send_waiting(client);
        return;
    }
    record_write(&client->source, reserve(&client->connection, RECORD_BYTES), now);
    push(&client->connection, RECORD_BYTES);
}

void client_flush(struct client *client)
{
    if (client->role == PUBLISH && options.rtmpt)
        send_waiting(client);
}

static void flood(struct client *client)
{
    uint64_t now = now_ns();
    size_t records = options.records_per_send;
    unsigned char *out = options.rtmpt ? wait_in_body(client, records * RECORD_BYTES)
                                       : reserve(&client->connection, records * RECORD_BYTES);
    for (size_t i = 0; i < records; i++)
        record_write(&client->source, out + i * RECORD_BYTES, now);
    if (options.rtmpt)
        send_waiting(client);
    else
        push(&client->connection, records * RECORD_BYTES);
}

void client_writable(struct client *client)
{
    flush(&client->connection);
    if (client->role == FLOOD_UP && records_flow && unsent(&client->connection) == 0 && client->command == NONE)
        flood(client);
}

static void pause_client(struct client *client)
{
    client->pause_until_ns = now_ns() + options.pause_ms * NS_PER_MS;
    pausing[(pausing_first + pausing_count++) % client_count] = client;
}

uint64_t clients_resume(uint64_t now)
{
    while (pausing_count > 0) {
        struct client *client = pausing[pausing_first];
        if (client->pause_until_ns > now && clients_poll)
            return client->pause_until_ns;
        pausing_first = (pausing_first + 1) % client_count;
        pausing_count--;
        if (clients_poll)
            poll_again(client);
    }
    return NEVER;
}

/* What a client of this role does next, `data_bytes` having come with the answer. */
static void go_on(struct client *client, size_t data_bytes)
{
    if (client->role == PUBLISH) {
        if (client->waiting >= (size_t)options.batch * RECORD_BYTES || !records_flow)
            send_waiting(client);
    }
    else if (client->role == FLOOD_UP)
        client_writable(client);
    else if (!clients_poll)
        return;
    else if (data_bytes > 0 || options.pause_ms == 0)
        poll_again(client);
    else
        pause_client(client);
}

static void answered(struct client *client)
{
    int command = client->command;
    client->command = NONE;
    client->begun = false;
    if (client->behind_count > 0) {
        client->command = client->behind[0];
        memmove(client->behind, client->behind + 1, --client->behind_count * sizeof *client->behind);
    }
    answers++;
    if (command == OPEN) {
        unsigned char introduction[INTRODUCTION_BYTES];
        introduction_write(introduction, client->role, client->number);
        request(client, SEND, introduction, sizeof introduction);
    } else if (command == CLOSE) {
        client->closed = true;
        forget(&client->connection);
    } else {
        client->running = true;
        if (client->command == NONE)
            go_on(client, client->body_bytes - 1);
    }
}

/* As librtmp, whose acknowledgements travel in sends behind the unfinished answer. */
static void acknowledge(struct client *client)
{
    if (options.program != LIBRTMP || client->role != PLAY || !records_flow
        || client->stream_bytes - client->acknowledged < ACKNOWLEDGE_BYTES)
        return;
    client->acknowledged = client->stream_bytes;
    unsigned char record[RECORD_BYTES];
    record_write(&client->source, record, now_ns());
    request(client, SEND, record, sizeof record);
}

/* The body of an answer, in the pieces in which it comes. */
static void read_body(struct client *client, const unsigned char *data, size_t bytes)
{
    bool first = !client->begun;
    client->begun = true;
    if (client->command == OPEN) {
        if (client->session_id_bytes + bytes > sizeof client->session_id)
            fail("session %u: the session id is too long", client->number);
        memcpy(client->session_id + client->session_id_bytes, data, bytes);
        client->session_id_bytes += bytes;
        if (client->body_left == bytes && client->session_id[--client->session_id_bytes] != '\n')
            fail("session %u: the session id does not end in a line feed", client->number);
    } else if (client->command == CLOSE) {
        if (client->body_bytes != 1 || data[0] != 0)
            fail("session %u: close was answered with something else than a zero byte", client->number);
    } else {
        if (first && memchr("\x01\x03\x05\x09\x11\x21", data[0], 6) == NULL)
            fail("session %u: interval byte %#x", client->number, data[0]);
        if (bytes > first) {
            client->stream_bytes += bytes - first;
            record_read(&client->sink, data + first, bytes - first, now_ns());
            acknowledge(client);
        }
    }
}

/* Take a byte of what is around the chunks' data; whether the body has ended. */
static bool take_between_chunks(struct client *client, unsigned char byte)
{
    if (byte == '\r')
        return false;
    if (client->chunk_part == LAST_END || client->chunk_part == CHUNK_END) {
        if (byte != '\n')
            fail("session %u: a chunk without its end", client->number);
        bool last = client->chunk_part == LAST_END;
        client->chunk_part = last ? NOT_CHUNKED : CHUNK_SIZE;
        return last;
    }
    if (byte != '\n') {
        if (client->chunk_size_bytes == sizeof client->chunk_size - 1 || strchr("0123456789abcdef", byte) == NULL)
            fail("session %u: a chunk's size with %#x in it", client->number, byte);
        client->chunk_size[client->chunk_size_bytes++] = byte;
        return false;
    }
    client->chunk_size[client->chunk_size_bytes] = 0;
    client->chunk_size_bytes = 0;
    client->body_left = strtoul(client->chunk_size, NULL, 16);
    client->body_bytes += client->body_left;
    client->chunk_part = client->body_left > 0 ? CHUNK_DATA : LAST_END;
    return false;
}

/* Take what comes first of a chunked body; how many bytes it took. */
static size_t take_chunked(struct client *client, const unsigned char *data, size_t bytes)
{
    if (client->chunk_part != CHUNK_DATA) {
        if (take_between_chunks(client, data[0]))
            answered(client);
        return 1;
    }
    if (bytes > client->body_left)
        bytes = client->body_left;
    read_body(client, data, bytes);
    client->body_left -= bytes;
    if (client->body_left == 0)
        client->chunk_part = CHUNK_END;
    return bytes;
}

static void read_head(struct client *client, const char *head, size_t bytes)
{
    if (bytes < 13 || memcmp(head, "HTTP/1.1 200 ", 13) != 0)
        fail("session %u: %s was answered %.12s", client->number, PATHS[client->command], head);
    client->body_bytes = 0;
    client->chunk_part = NOT_CHUNKED;
    const char *end = head + bytes, *line = head;
    while ((line = memchr(line, '\n', end - line)) != NULL && ++line < end)
        if (end - line > 16 && strncasecmp(line, "Content-Length: ", 16) == 0)
            client->body_bytes = strtoul(line + 16, NULL, 10);
        else if (end - line > 26 && strncasecmp(line, "Transfer-Encoding: chunked", 26) == 0)
            client->chunk_part = CHUNK_SIZE;
    if (client->chunk_part == CHUNK_SIZE && options.program != FFMPEG)
        fail("session %u: a chunked answer, which this client does not read", client->number);
    if (client->body_bytes == 0 && client->chunk_part == NOT_CHUNKED)
        fail("session %u: an answer without a body", client->number);
    client->body_left = client->body_bytes;
}

/* Take a head out of the bytes that came, in whole or in part; how many bytes it took. */
static size_t take_head(struct client *client, const unsigned char *data, size_t bytes)
{
    if (client->command == NONE)
        fail("session %u: an answer to no request", client->number);
    if (client->head_bytes == 0) {
        const unsigned char *end = memmem(data, bytes, "\r\n\r\n", 4);
        if (end != NULL) {
            read_head(client, (const char *)data, end + 4 - data);
            return end + 4 - data;
        }
    }
    for (size_t i = 0; i < bytes; i++) {
        if (client->head_bytes == sizeof client->head)
            fail("session %u: an answer's head is too long", client->number);
        client->head[client->head_bytes++] = data[i];
        if (client->head_bytes >= 4 && memcmp(client->head + client->head_bytes - 4, "\r\n\r\n", 4) == 0) {
            read_head(client, (const char *)client->head, client->head_bytes);
            client->head_bytes = 0;
            return i + 1;
        }
    }
    return bytes;
}

static void read_answers(struct client *client, const unsigned char *data, size_t bytes)
{
    while (bytes > 0) {
        size_t take = client->body_left;
        if (client->chunk_part != NOT_CHUNKED) {
            take = take_chunked(client, data, bytes);
        } else if (take == 0) {
            take = take_head(client, data, bytes);
        } else {
            if (take > bytes)
                take = bytes;
            read_body(client, data, take);
            client->body_left -= take;
            if (client->body_left == 0)
                answered(client);
        }
        data += take;
        bytes -= take;
    }
}

void client_readable(struct client *client)
{
    static unsigned char data[READ_BYTES];
    long bytes = pull(&client->connection, data, sizeof data);
    if (bytes < 0 && options.program == LIBRTMP && client->behind_count > 0
        && client->behind[client->behind_count - 1] == CLOSE) {
        /* A close behind an answer that cannot be filled any more ends the connection. */
        client->closed = true;
        forget(&client->connection);
        return;
    }
    if (bytes < 0)
        fail("session %u: the connection was closed (last request: %s)", client->number,
             client->command == NONE ? "answered" : PATHS[client->command]);
    if (options.rtmpt)
        read_answers(client, data, bytes);
    else
        record_read(&client->sink, data, bytes, now_ns());
}

void client_close(struct client *client)
{
    if (options.rtmpt) {
        request(client, CLOSE, (const unsigned char *)"", 1);
        return;
    }
    forget(&client->connection);
    client->closed = true;
}
