/* The clients: RTMPT as FFmpeg speaks it, or the same bytes with nothing around them.
 *
 * An RTMPT client has one request under way at a time. It polls at once after an answer with data
 * and pauses after an empty one. A publishing client sends each record as it comes; records that
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

static void request(struct client *client, int command, const unsigned char *body, size_t bytes)
{
    unsigned char *start = reserve(&client->connection, HEAD_BYTES + bytes), *out = start;
    out = put(out, PATHS[command], strlen(PATHS[command]));
    if (command != OPEN) {
        out = put(out, client->session_id, client->session_id_bytes);
        *out++ = '/';
        out = put_number(out, client->sequence++);
    }
    out = put(out, FIELDS, sizeof FIELDS - 1);
    out = put_number(out, options.port);
    out = put(out, "\r\nContent-Length: ", 18);
    out = put_number(out, bytes);
    out = put(out, MORE_FIELDS, sizeof MORE_FIELDS - 1);
    client->command = command;
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
        send_waiting(client);
        return;
    }
    record_write(&client->source, reserve(&client->connection, RECORD_BYTES), now);
    push(&client->connection, RECORD_BYTES);
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
    if (client->role == PUBLISH)
        send_waiting(client);
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
        go_on(client, client->body_bytes - 1);
    }
}

/* The body of an answer, in the pieces in which it comes. */
static void read_body(struct client *client, const unsigned char *data, size_t bytes)
{
    bool first = client->body_left == client->body_bytes;
    client->body_left -= bytes;
    if (client->command == OPEN) {
        if (client->session_id_bytes + bytes > sizeof client->session_id)
            fail("session %u: the session id is too long", client->number);
        memcpy(client->session_id + client->session_id_bytes, data, bytes);
        client->session_id_bytes += bytes;
        if (client->body_left == 0 && client->session_id[--client->session_id_bytes] != '\n')
            fail("session %u: the session id does not end in a line feed", client->number);
    } else if (client->command == CLOSE) {
        if (client->body_bytes != 1 || data[0] != 0)
            fail("session %u: close was answered with something else than a zero byte", client->number);
    } else {
        if (first && memchr("\x01\x03\x05\x09\x11\x21", data[0], 6) == NULL)
            fail("session %u: interval byte %#x", client->number, data[0]);
        if (bytes > first)
            record_read(&client->sink, data + first, bytes - first, now_ns());
    }
    if (client->body_left == 0)
        answered(client);
}

static void read_head(struct client *client, const char *head, size_t bytes)
{
    if (bytes < 13 || memcmp(head, "HTTP/1.1 200 ", 13) != 0)
        fail("session %u: %s was answered %.12s", client->number, PATHS[client->command], head);
    client->body_bytes = 0;
    const char *end = head + bytes, *line = head;
    while ((line = memchr(line, '\n', end - line)) != NULL && ++line < end)
        if (end - line > 16 && strncasecmp(line, "Content-Length: ", 16) == 0)
            client->body_bytes = strtoul(line + 16, NULL, 10);
    if (client->body_bytes == 0)
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
        if (take == 0) {
            take = take_head(client, data, bytes);
        } else {
            if (take > bytes)
                take = bytes;
            read_body(client, data, take);
        }
        data += take;
        bytes -= take;
    }
}

void client_readable(struct client *client)
{
    static unsigned char data[READ_BYTES];
    long bytes = pull(&client->connection, data, sizeof data);
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
