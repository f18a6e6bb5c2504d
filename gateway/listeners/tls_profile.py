"""The TLS configuration of the listeners: Mozilla's intermediate profile, with additions.

    https://wiki.mozilla.org/Security/Server_Side_TLS, guidelines 5.7

Rules:

- TLS 1.2 and 1.3; in 1.2 only authenticated ciphers with forward secrecy. The profile's three DHE ciphers
  are omitted: all known clients that support them support ECDHE too, and their handshakes cost the server
  most.
- Ciphers in the client's order: all are secure, and the client knows which one is fast on its hardware.
- No compression (CRIME), and no renegotiation, which costs a client little and the server much.
- No session tickets. In TLS 1.2 their key would have the lifetime of the process; sessions are resumed from
  OpenSSL's own limited cache. In TLS 1.3, which has no other resumption, a ticket follows the handshake,
  and librtmp with GnuTLS (Debian's rtmpdump) crashes if it is the first data that it reads.
- ALPN offers ``http/1.1`` and requires nothing: RTMPS clients send no protocol, or one of their own.
"""

from __future__ import annotations

import _ssl
import ctypes
import ssl
import sys
from collections.abc import Sequence
from typing import Final

from gateway.errors import ConfigurationError
from gateway.tls import ServerConnection

CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
GROUPS: Final = ("X25519", "prime256v1", "secp384r1")
ALPN: Final = ("http/1.1",)

_OPTIONS: Final = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
# SSL_CTRL_SET_GROUPS_LIST of openssl/ssl.h; the macro SSL_CTX_set1_groups_list(3) is made of it.
_SET_GROUPS_LIST: Final = 92
# The one group of the profile that every client knows, for when it has to be a single one.
_COMMON_GROUP: Final = "prime256v1"


def server_context(chain: str, key: str | None = None) -> ssl.SSLContext:
    """The context of a server with the chain and key in the PEM files of these paths.

    ``key`` is None when ``chain`` has both. Raises ConfigurationError when OpenSSL refuses the files.
    """
    context = bare_context()
    _load(context, chain, key)
    return context


def bare_context() -> ssl.SSLContext:
    """The context of a server without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = ServerConnection
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= _OPTIONS
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # OP_NO_TICKET leaves TLS 1.3 those that are mere numbers of remembered sessions.
    context.num_tickets = 0
    context.set_ciphers(":".join(CIPHERS))
    context.set_alpn_protocols(list(ALPN))
    if not set_groups(context, GROUPS):
        context.set_ecdh_curve(_COMMON_GROUP)
    return context


def _load(context: ssl.SSLContext, chain: str, key: str | None) -> None:
    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(chain, key, password="")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{chain}: OpenSSL refuses it: {error}; get a new one") from None


def set_groups(context: ssl.SSLContext, groups: Sequence[str]) -> bool:
    """Allow these groups for the key exchange, in this order; whether that could be done.

    Until Python 3.15, ``ssl`` can allow one group or OpenSSL's default of many. One would cost each client
    that guessed another a round trip; the default has groups that the profile has not. So OpenSSL is
    called itself, on the pointer that follows the head of Python's object in every CPython so far. Where
    OpenSSL is built into the interpreter there is nothing to call.
    """
    if sys.version_info >= (3, 15):
        context.set_groups(":".join(groups))
        return True
    if sys.implementation.name != "cpython":
        return False
    try:
        control = ctypes.CDLL(_ssl.__file__).SSL_CTX_ctrl
    except (AttributeError, OSError):
        return False
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
    control.restype = ctypes.c_long
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    return bool(control(pointer, _SET_GROUPS_LIST, 0, ":".join(groups).encode()) == 1)
