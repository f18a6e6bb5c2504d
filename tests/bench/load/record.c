/* Records: what travels through gateway and proxy.
 *
 * A record is a head (mark, stream, counter, time) and a filling that is the same in all of them
 * but differs at every offset. Whatever is lost, doubled, swapped between sessions or shifted by a
 * byte shows at the latest in the next record.
 */
#include <string.h>

#include "load.h"

#define MARK 0x5245434fu

struct record_head {
    uint32_t mark, stream;
    uint64_t counter, sent_ns;
};

static unsigned char filling[RECORD_BYTES];

void record_setup(void)
{
    uint32_t state = MARK;
    for (size_t i = 0; i < sizeof filling; i++) {
        state = state * 1664525u + 1013904223u;
        filling[i] = state >> 24;
    }
}

void record_write(struct source *source, unsigned char *out, uint64_t now)
{
    struct record_head head = {MARK, source->stream, source->next++, now};
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head, filling + sizeof head, RECORD_BYTES - sizeof head);
}

static void check(struct sink *sink, const unsigned char *record, uint64_t now)
{
    struct record_head head;
    memcpy(&head, record, sizeof head);
    const char *way = sink->down ? "downstream" : "upstream";
    if (head.mark != MARK)
        fail("session %u %s: bytes lost or doubled near record %lu", sink->stream, way, sink->next);
    if (head.stream != sink->stream)
        fail("session %u %s: got a record of session %u", sink->stream, way, head.stream);
    if (head.counter != sink->next)
        fail("session %u %s: got record %lu instead of %lu", sink->stream, way, head.counter, sink->next);
    if (memcmp(record + sizeof head, filling + sizeof head, RECORD_BYTES - sizeof head) != 0)
        fail("session %u %s: the bytes of record %lu changed", sink->stream, way, sink->next);
    sink->next++;
    arrived(sink->down, head.sent_ns, now - head.sent_ns);
}

void record_read(struct sink *sink, const unsigned char *data, size_t bytes, uint64_t now)
{
    while (bytes > 0) {
        if (sink->held == 0 && bytes >= RECORD_BYTES) {
            check(sink, data, now);
            data += RECORD_BYTES;
            bytes -= RECORD_BYTES;
            continue;
        }
        size_t take = RECORD_BYTES - sink->held;
        if (take > bytes)
            take = bytes;
        memcpy(sink->part + sink->held, data, take);
        sink->held += take;
        data += take;
        bytes -= take;
        if (sink->held == RECORD_BYTES) {
            sink->held = 0;
            check(sink, sink->part, now);
        }
    }
}
