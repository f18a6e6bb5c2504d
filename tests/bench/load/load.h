/* The load generator: media server and clients in one process on one core, so that one clock times
 * both ends and no scheduler stands between them.
 *
 *   main.c      options, the phases of a run, what is printed
 *   client.c    the clients: RTMPT as FFmpeg speaks it, or the same bytes over plain TCP
 *   upstream.c  the media server behind gateway and proxy
 *   record.c    what travels: numbered, timed records, checked byte for byte on arrival
 *   net.c       sockets, what waits to be written, the one wait for events
 *   tls.c       TLS on the clients' sockets
 *   stub.c      the fastest RTMPT answerer we can write: measures the generator's own ceiling
 *
 * A run ends with exit status 0 and one "name value" pair a line; or with 1 and one line on stderr,
 * as soon as a record is lost, doubled, changed, out of order or in the wrong session.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define READ_BYTES (256 * 1024)
#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define NEVER UINT64_MAX

/* ---- main.c ---- */

/* What a session is for; its name is the first word upstream. */
enum role { QUIET, PLAY, PUBLISH, FLOOD_DOWN, FLOOD_UP, ROLES };

struct options {
    long rtmpt;            /* 1: RTMPT; 0: the same bytes with nothing around them */
    long tls;              /* 1: the clients speak TLS */
    long two_segments;     /* 1: head and body in two writes with Nagle's algorithm on, as FFmpeg */
    long bare;             /* 1: nothing is behind the target, do not wait for upstream connections */
    long program;          /* how RTMPT clients speak: 0 as FFmpeg, 1 as librtmp, 2 as one that reads whole answers */
    long burst;            /* 1: all records of a period are sent in the same millisecond */
    long host;             /* of the target, as inet_addr() gives it; 0 is 127.0.0.1 */
    long spin;             /* 1: never sleep: what is measured need not wake the generator up */
    long hold;             /* 1: when all are open say "ready", go on until a line comes on stdin */
    long port;             /* of the target */
    long upstream_fd;      /* the upstream's listening socket, inherited */
    long pid;              /* whose processor time is taken */
    long sessions[ROLES];  /* how many of each role */
    long records_per_s;    /* of each PLAY and PUBLISH session */
    long records_per_send; /* of a FLOOD_UP session */
    long batch;            /* records that a PUBLISH session collects before it sends; FFmpeg: ten packets */
    long pause_ms;         /* after an empty answer; FFmpeg sleeps 50 */
    long warm_ms, measure_ms;
};
extern struct options options;

/* A record arrived `late_ns` after it was sent; `down` says in which direction. */
void arrived(bool down, uint64_t sent_ns, uint64_t late_ns);

/* ---- net.c ---- */

enum kind { LISTENER, UPSTREAM, CLIENT, STUB_LISTENER, STUB };

/* One non-blocking connection: the first member of everything that is registered for events. */
struct connection {
    enum kind kind;
    int fd;
    bool eager;                     /* has more to say whenever it is writable */
    bool wants_write;               /* registered for EPOLLOUT */
    struct ssl_st *tls;             /* OpenSSL's, or NULL */
    unsigned char *out;             /* what the kernel has not taken yet: out[start..end) */
    size_t start, end, capacity;
};

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ns(void);
uint64_t processor_ns(int pid);
int dial(int port);
void set_no_delay(int fd);
void watch(struct connection *connection);
/* Where to put `bytes` more bytes for the connection; follow with push(). */
unsigned char *reserve(struct connection *connection, size_t bytes);
/* Count `bytes` reserved bytes in; write what the kernel takes, keep the rest. */
void push(struct connection *connection, size_t bytes);
void flush(struct connection *connection);
void set_eager(struct connection *connection, bool eager);
static inline size_t unsent(const struct connection *connection) { return connection->end - connection->start; }
/* Bytes read, 0 for nothing there now, -1 for the end. */
long pull(struct connection *connection, unsigned char *into, size_t bytes);
void forget(struct connection *connection);
/* Wait until `until_ns` at most, handle what happened. */
void wait_events(uint64_t until_ns);

/* ---- tls.c ---- */

/* Shake hands; waits until that is done. */
void tls_connect(struct connection *connection);
/* As send(), 0 for nothing now. */
long tls_send(struct connection *connection, const unsigned char *data, size_t bytes);
/* As pull(). */
long tls_receive(struct connection *connection, unsigned char *into, size_t bytes);
void tls_close(struct connection *connection);

/* ---- record.c ---- */

/* 50 a second of these are 1 Mbit/s. */
#define RECORD_BYTES 2500
/* As many as fit an answer or a socket buffer well; the batch of the sessions that flood. */
#define BATCH_RECORDS 26

struct source {
    uint32_t stream;
    uint64_t next;
};

struct sink {
    uint32_t stream;
    bool down;
    uint64_t next;
    size_t held;                          /* bytes of a record that has come in part */
    unsigned char part[RECORD_BYTES];
};

void record_setup(void);
void record_write(struct source *source, unsigned char *out, uint64_t now);
/* Take the bytes that arrived; fails the run unless they continue the stream exactly. */
void record_read(struct sink *sink, const unsigned char *data, size_t bytes, uint64_t now);

/* ---- upstream.c ---- */

/* A connection upstream begins like RTMPE's: with 06 and as many bytes as the first words of a handshake
 * have. They say "ROLE CLIENT" in numbers, which client is at the other end and what it is for. RTMPE, since
 * what follows can be read by nobody. */
#define INTRODUCTION_BYTES 1537
void introduction_write(unsigned char *out, unsigned role, unsigned client);


struct upstream;
extern int upstreams_open;

void upstream_setup(void);
void upstream_accept(void);
void upstream_readable(struct upstream *upstream);
void upstream_writable(struct upstream *upstream);
void upstream_send(struct upstream *upstream, uint64_t now);
void upstream_flood(struct upstream *upstream, bool on);
uint64_t upstream_sent(const struct upstream *upstream);
uint64_t upstream_received(const struct upstream *upstream);

/* ---- client.c ---- */

enum command { OPEN, SEND, IDLE, CLOSE, NONE };
enum program { FFMPEG, LIBRTMP, WHOLE };
/* librtmp acknowledges each 250 kB; no answer of ours is as long as so many. */
#define BEHIND 32
#define ACKNOWLEDGE_BYTES 250000

struct client {
    struct connection connection;
    enum role role;
    uint32_t number;
    struct upstream *upstream;      /* the other end, once it has said who it is */
    struct source source;
    struct sink sink;
    /* RTMPT */
    enum command command;           /* the first one that waits for its answer, or NONE */
    enum command behind[BEHIND];    /* librtmp: those that were sent after it, in order */
    int behind_count;
    uint64_t acknowledged;          /* librtmp: bytes of the stream when it last sent an acknowledgement */
    bool running, closed;
    uint64_t sequence;
    uint64_t pause_until_ns;
    char session_id[40];
    size_t session_id_bytes;
    unsigned char head[2048];       /* of an answer that has come in part */
    size_t head_bytes, body_left, body_bytes;
    enum chunk_part { NOT_CHUNKED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, LAST_END } chunk_part;
    char chunk_size[20];
    size_t chunk_size_bytes;
    bool begun;                     /* the interval byte of the current answer has come */
    uint64_t stream_bytes;          /* that came in answers, interval bytes apart */
    unsigned char *body;            /* records that wait for the answer to the last send */
    size_t waiting, body_capacity;
};
extern struct client *clients;
extern int client_count;
extern uint64_t answers;            /* complete ones, of all clients */
extern bool clients_poll;           /* false: no idle follows an answer */
extern bool records_flow;           /* false: no more records are made */

void clients_setup(void);
void client_open(struct client *client);
bool client_ready(const struct client *client);
void client_readable(struct client *client);
void client_writable(struct client *client);
void client_send(struct client *client, uint64_t now);
void client_close(struct client *client);
/* Send what a batch was not full for. */
void client_flush(struct client *client);
/* Poll again where the pause is over; returns when the next pause ends. */
uint64_t clients_resume(uint64_t now);

/* ---- stub.c ---- */

_Noreturn void stub_serve(int listening_fd);
void stub_accept(struct connection *listener);
void stub_readable(struct connection *connection);

#endif
