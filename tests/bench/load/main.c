/* One run: open all sessions, let the load settle, measure, deliver what is under way, close.
 *
 *   load KEY=VALUE...      a run; keys as in OPTIONS below
 *   load stub FD           answer RTMPT commands on an inherited listening socket until killed
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "load.h"

/* Opens under way at once: fewer than any listener's backlog. */
#define OPENING 64
#define OPEN_LIMIT_NS (60 * NS_PER_S)
/* What is under way when the load stops is a few megabytes at most. */
#define DRAIN_LIMIT_NS (10 * NS_PER_S)
#define HOLD_LOOK_NS (50 * NS_PER_MS)

struct options options = {.batch = 1, .records_per_s = 50, .records_per_send = 10, .upstream_fd = -1};

/* Times in nanoseconds, as many as come in the window. */
struct samples {
    const char *name;
    uint64_t *times;
    size_t count, capacity;
};
static struct samples down = {.name = "down"}, up = {.name = "up"}, lag = {.name = "lag"};

/* What the counters are at either end of the window in which is measured. */
struct reading {
    uint64_t at_ns, target_ns, own_ns, answers, records;
};
static uint64_t window_start_ns = NEVER, window_end_ns = NEVER;
static uint64_t records_arrived;

static void sample(struct samples *samples, uint64_t time_ns)
{
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? samples->capacity * 2 : 1 << 16;
        samples->times = realloc(samples->times, samples->capacity * sizeof *samples->times);
    }
    samples->times[samples->count++] = time_ns;
}

static bool paced(void) { return options.sessions[PLAY] + options.sessions[PUBLISH] > 0; }

void arrived(bool is_down, uint64_t sent_ns, uint64_t late_ns)
{
    records_arrived++;
    if (paced() && sent_ns >= window_start_ns && sent_ns < window_end_ns)
        sample(is_down ? &down : &up, late_ns);
}

/* ---- The pace: each PLAY and PUBLISH session's record comes once a period, at a phase of its own. ---- */

struct beat {
    uint64_t phase_ns;
    struct client *client;
};
static struct beat *beats;
static size_t beat_count, next_beat;
static uint64_t period_ns, period_start_ns = NEVER;

static int by_phase(const void *one, const void *other)
{
    uint64_t a = ((const struct beat *)one)->phase_ns, b = ((const struct beat *)other)->phase_ns;
    return a < b ? -1 : a > b;
}

static void pace_setup(uint64_t start_ns)
{
    uint32_t state = 1; /* the same phases in every run */
    period_ns = NS_PER_S / options.records_per_s;
    period_start_ns = start_ns;
    beats = calloc(client_count, sizeof *beats);
    for (int i = 0; i < client_count; i++) {
        if (clients[i].role != PLAY && clients[i].role != PUBLISH)
            continue;
        state = state * 1664525u + 1013904223u;
        uint64_t phase_ns = options.burst ? 0 : (uint64_t)state * period_ns >> 32;
        beats[beat_count++] = (struct beat){phase_ns, &clients[i]};
    }
    qsort(beats, beat_count, sizeof *beats, by_phase);
}

/* Send what is due; returns when the next record is. */
static uint64_t pace(uint64_t now)
{
    while (beat_count > 0 && records_flow) {
        uint64_t due = period_start_ns + beats[next_beat].phase_ns;
        if (due > now)
            return due;
        if (due >= window_start_ns && due < window_end_ns)
            sample(&lag, now - due);
        struct client *client = beats[next_beat].client;
        if (client->role == PLAY)
            upstream_send(client->upstream, now);
        else
            client_send(client, now);
        if (++next_beat == beat_count) {
            next_beat = 0;
            period_start_ns += period_ns;
        }
        now = now_ns();
    }
    return NEVER;
}

/* ---- Phases ---- */

static void run_until(uint64_t end_ns)
{
    for (uint64_t now = now_ns(); now < end_ns; now = now_ns()) {
        uint64_t next = pace(now), resume = clients_resume(now);
        next = next < resume ? next : resume;
        wait_events(next < end_ns ? next : end_ns);
    }
}

static void step(const char *what, uint64_t limit_ns)
{
    uint64_t now = now_ns();
    if (now > limit_ns)
        fail("%s takes too long", what);
    uint64_t resume = clients_resume(now);
    wait_events(resume < limit_ns ? resume : limit_ns);
}

static void open_all(void)
{
    uint64_t limit_ns = now_ns() + OPEN_LIMIT_NS;
    int ready = 0, opened = 0;
    while (ready < client_count) {
        for (; opened < client_count && opened < ready + OPENING; opened++)
            client_open(&clients[opened]);
        step("opening", limit_ns);
        while (ready < opened && client_ready(&clients[ready]))
            ready++;
    }
}

static void flood_all(bool on)
{
    for (int i = 0; i < client_count; i++) {
        struct client *client = &clients[i];
        if (client->role == FLOOD_DOWN)
            upstream_flood(client->upstream, on);
        else if (client->role == FLOOD_UP && options.rtmpt)
            client_writable(client);
        else if (client->role == FLOOD_UP)
            set_eager(&client->connection, on);
    }
}

static struct reading read_counters(void)
{
    return (struct reading){.at_ns = now_ns(),
                            .target_ns = processor_ns(options.pid),
                            .own_ns = processor_ns(getpid()),
                            .answers = answers,
                            .records = records_arrived};
}

static void measure(struct reading *first, struct reading *last)
{
    window_start_ns = now_ns() + options.warm_ms * NS_PER_MS;
    window_end_ns = window_start_ns + options.measure_ms * NS_PER_MS;
    pace_setup(now_ns());
    records_flow = true;
    flood_all(true);
    run_until(window_start_ns);
    *first = read_counters();
    run_until(window_end_ns);
    *last = read_counters();
    flood_all(false);
    records_flow = false;
    for (int i = 0; i < client_count; i++)
        client_flush(&clients[i]);
}

static bool delivered(const struct client *client)
{
    return client->upstream == NULL || (client->sink.next == upstream_sent(client->upstream)
                                        && client->source.next == upstream_received(client->upstream));
}

/* librtmp closes behind an unfinished answer. */
static bool quiet(const struct client *client)
{
    return client->command == NONE || (options.rtmpt && options.program == LIBRTMP);
}
static bool closed(const struct client *client) { return client->closed; }

/* Go on until it is true of every client. */
static void all(bool (*holds)(const struct client *), const char *what)
{
    uint64_t limit_ns = now_ns() + DRAIN_LIMIT_NS;
    for (int i = 0; i < client_count; i++)
        while (!holds(&clients[i]))
            step(what, limit_ns);
}

static void close_all(void)
{
    all(delivered, "delivering the last records");
    clients_poll = false;
    all(quiet, "the last answer");
    for (int i = 0; i < client_count; i++)
        client_close(&clients[i]);
    all(closed, "the answer to close");
    for (uint64_t limit_ns = now_ns() + DRAIN_LIMIT_NS; upstreams_open > 0;)
        step("closing the upstream connections", limit_ns);
}

/* Say that all are open, and go on until somebody has written a line. */
static void hold(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    run_until(now_ns() + options.warm_ms * NS_PER_MS);
    puts("ready");
    fflush(stdout);
    while (poll(&input, 1, 0) == 0)
        run_until(now_ns() + HOLD_LOOK_NS);
}

/* ---- What is printed ---- */

static int by_time(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

static void print_samples(struct samples *samples)
{
    if (samples->count == 0)
        return;
    qsort(samples->times, samples->count, sizeof *samples->times, by_time);
    printf("%s_p50_us %.1f\n", samples->name, samples->times[samples->count / 2] / 1e3);
    printf("%s_p90_us %.1f\n", samples->name, samples->times[samples->count * 90 / 100] / 1e3);
    printf("%s_p99_us %.1f\n", samples->name, samples->times[samples->count * 99 / 100] / 1e3);
    printf("%s_max_us %.1f\n", samples->name, samples->times[samples->count - 1] / 1e3);
}

static void print_readings(const struct reading *first, const struct reading *last)
{
    printf("wall_s %.6f\n", (last->at_ns - first->at_ns) / 1e9);
    printf("target_cpu_s %.6f\n", (last->target_ns - first->target_ns) / 1e9);
    printf("own_cpu_s %.6f\n", (last->own_ns - first->own_ns) / 1e9);
    printf("answers %lu\n", last->answers - first->answers);
    printf("records %lu\n", last->records - first->records);
}

/* ---- Options ---- */

static const struct {
    const char *name;
    long *value;
} OPTIONS[] = {
    {"rtmpt", &options.rtmpt},
    {"tls", &options.tls},
    {"two_segments", &options.two_segments},
    {"bare", &options.bare},
    {"program", &options.program},
    {"burst", &options.burst},
    {"spin", &options.spin},
    {"hold", &options.hold},
    {"port", &options.port},
    {"upstream_fd", &options.upstream_fd},
    {"pid", &options.pid},
    {"quiet", &options.sessions[QUIET]},
    {"play", &options.sessions[PLAY]},
    {"publish", &options.sessions[PUBLISH]},
    {"flood_down", &options.sessions[FLOOD_DOWN]},
    {"flood_up", &options.sessions[FLOOD_UP]},
    {"records_per_s", &options.records_per_s},
    {"records_per_send", &options.records_per_send},
    {"batch", &options.batch},
    {"pause_ms", &options.pause_ms},
    {"warm_ms", &options.warm_ms},
    {"measure_ms", &options.measure_ms},
};

static void read_option(const char *argument)
{
    size_t name_bytes = strcspn(argument, "=");
    if (strncmp(argument, "host=", 5) == 0) {
        options.host = inet_addr(argument + 5);
        return;
    }
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++) {
        if (strlen(OPTIONS[i].name) == name_bytes && strncmp(OPTIONS[i].name, argument, name_bytes) == 0
            && argument[name_bytes] == '=') {
            *OPTIONS[i].value = atol(argument + name_bytes + 1);
            return;
        }
    }
    fail("no such option: %s", argument);
}

int main(int count, char **arguments)
{
    if (count == 3 && strcmp(arguments[1], "stub") == 0)
        stub_serve(atoi(arguments[2]));
    for (int i = 1; i < count; i++)
        read_option(arguments[i]);
    /* Ordinary processes are woken up to 50 us late otherwise, to save power. */
    prctl(PR_SET_TIMERSLACK, 1);
    record_setup();
    clients_setup();
    if (!options.bare)
        upstream_setup();
    open_all();
    if (options.hold) {
        hold();
    } else {
        struct reading first, last;
        measure(&first, &last);
        print_readings(&first, &last);
    }
    close_all();
    print_samples(&down);
    print_samples(&up);
    print_samples(&lag);
    return 0;
}
