/* TLS on the clients' side. One version and one cipher, so that all targets do the same work. */
#include <poll.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "load.h"

#define HANDSHAKE_LIMIT_MS 10000

static SSL_CTX *context;

static void tls_setup(void)
{
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void await(int fd, short events)
{
    struct pollfd waiting = {.fd = fd, .events = events};
    if (poll(&waiting, 1, HANDSHAKE_LIMIT_MS) <= 0)
        fail("a TLS handshake takes too long");
}

void tls_connect(struct connection *connection)
{
    if (context == NULL)
        tls_setup();
    connection->tls = SSL_new(context);
    SSL_set_fd(connection->tls, connection->fd);
    await(connection->fd, POLLOUT);
    for (int done; (done = SSL_connect(connection->tls)) != 1;) {
        int wanted = SSL_get_error(connection->tls, done);
        if (wanted != SSL_ERROR_WANT_READ && wanted != SSL_ERROR_WANT_WRITE)
            fail("a TLS handshake failed: %s", ERR_error_string(ERR_get_error(), NULL));
        await(connection->fd, wanted == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT);
    }
}

long tls_send(struct connection *connection, const unsigned char *data, size_t bytes)
{
    size_t sent;
    int done = SSL_write_ex(connection->tls, data, bytes, &sent);
    if (done == 1)
        return sent;
    int wanted = SSL_get_error(connection->tls, done);
    if (wanted != SSL_ERROR_WANT_READ && wanted != SSL_ERROR_WANT_WRITE)
        fail("TLS write: %s", ERR_error_string(ERR_get_error(), NULL));
    return 0;
}

/* Nothing is left inside OpenSSL that epoll does not know of: it reads no further than its record. */
long tls_receive(struct connection *connection, unsigned char *into, size_t bytes)
{
    size_t got = 0, piece;
    while (got < bytes) {
        int done = SSL_read_ex(connection->tls, into + got, bytes - got, &piece);
        if (done != 1) {
            bool is_open = SSL_get_error(connection->tls, done) == SSL_ERROR_WANT_READ;
            return got > 0 ? (long)got : is_open ? 0 : -1;
        }
        got += piece;
    }
    return got;
}

void tls_close(struct connection *connection)
{
    SSL_shutdown(connection->tls);
    SSL_free(connection->tls);
    connection->tls = NULL;
}
