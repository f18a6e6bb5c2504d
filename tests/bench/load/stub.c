/* The fastest answerer of RTMPT commands we can write: it reads nothing but the command's letter.
 *
 * With it at the other end, the generator itself is what is measured.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "load.h"

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/x-fcs\r\nConnection: keep-alive\r\nContent-Length: "
static const char OPENED[] = HEAD "5\r\n\r\nstub\n";
static const char CLOSED[] = HEAD "1\r\n\r\n";
static const char EMPTY[] = HEAD "1\r\n\r\n\x01";

void stub_accept(struct connection *listener)
{
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        connection->kind = STUB;
        connection->fd = fd;
        set_no_delay(fd);
        watch(connection);
    }
}

/* A request comes in one piece, since the generator writes it in one and waits for the answer. */
void stub_readable(struct connection *connection)
{
    static unsigned char data[READ_BYTES];
    long bytes = pull(connection, data, sizeof data);
    if (bytes < 0)
        forget(connection);
    if (bytes < 8)
        return;
    const char *answer = data[6] == 'o' ? OPENED : data[6] == 'c' ? CLOSED : EMPTY;
    /* The closing zero byte is the string's own. */
    size_t answer_bytes = data[6] == 'c' ? sizeof CLOSED : strlen(answer);
    memcpy(reserve(connection, answer_bytes), answer, answer_bytes);
    push(connection, answer_bytes);
}

void stub_serve(int listening_fd)
{
    struct connection listener = {.kind = STUB_LISTENER, .fd = listening_fd};
    watch(&listener);
    for (;;)
        wait_events(NEVER);
}
