"""Media servers that demand RTMPE or RTMPTE, for clients of plain RTMP and for those of RTMPE."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from gateway.protocols.rtmp.digest import (
    PLAYER,
    SERVER,
    answer_key,
    find_digest,
    sign_answer,
)
from gateway.protocols.rtmp.rtmpe import RANDOM_BYTES, answer
from gateway.protocols.rtmp.rtmpe_client import RTMPEClientHandshake
from gateway.protocols.rtmp.rtmpe_keys import encrypt_digest
from tests.helpers.interop.clients import (
    FFmpegPlayer,
    Player,
    RtmpdumpPlayer,
    current_ffmpeg_player,
    publish,
    url,
)
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.rtmpe import encrypted
from tests.helpers.interop.secure import Gateway, start_configured
from tests.helpers.interop.servers import LOOPBACK
from tests.interop.conftest import Upstream

_PUBLISHED_S = _PLAYED_S = 20.0
_BLOCK_BYTES = 1536
_RANDOM = Random(1).randbytes(RANDOM_BYTES)
# A server that decrypts RTMPE, in front of one that does not speak it.
_SERVER = """
workers = 1
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = ["{server}"]
rtmpe = "terminate"
"""
_GATEWAY = """
workers = 1
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = [{servers}]
choose = "round_robin"
check = "off"
"""


def start(programs: Programs, *servers: str) -> Gateway:
    """A gateway in front of these servers, which it takes in turn."""
    listed = ", ".join(f'"{server}"' for server in servers)
    return start_configured(programs, _GATEWAY.format(servers=listed), 1)


@pytest.fixture(scope="module")
def server(lasting_programs: Programs, tapped_nginx: Upstream) -> int:
    """The port of a server of RTMPE and RTMPTE, in front of nginx."""
    text = _SERVER.format(server=tapped_nginx.server)
    return start_configured(lasting_programs, text, 1).ports[0]


def test_clients_publish_and_play_the_same_packets(
    programs: Programs,
    nginx: Upstream,
    server: int,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    address = f"{LOOPBACK}:{server}"
    (port,) = start(programs, f"rtmpe://{address}", f"rtmpte://{address}").ports
    # One of them is published by RTMPE, and the other by RTMPTE.
    other = f"{stream}-other"
    players: list[Player] = [
        RtmpdumpPlayer(programs, url("rtmp", port, stream)),
        RtmpdumpPlayer(programs, url("rtmpe", port, other)),
        FFmpegPlayer(programs, url("rtmpt", port, stream)),
        current_ffmpeg_player(programs, url("rtmpte", port, other)),
    ]
    nginx.tap.players(len(players))
    publishers = [publish(programs, clip, url("rtmp", port, each)) for each in (stream, other)]
    for publisher in publishers:
        assert publisher.ends(_PUBLISHED_S) == 0
    for player in players:
        assert player.program.ends(_PLAYED_S) == 0
        assert player.packets() == packets


def test_a_server_that_shares_no_code_with_the_gateway_is_published_to_and_played_from(
    programs: Programs, nginx: Upstream, stream: str, clip: Path, packets: list[Packet]
) -> None:
    with encrypted(nginx.tap.port) as one, encrypted(nginx.tap.port) as other:
        (port,) = start(programs, f"rtmpe://{LOOPBACK}:{one}", f"rtmpe://{LOOPBACK}:{other}").ports
        player = RtmpdumpPlayer(programs, url("rtmpt", port, stream))
        nginx.tap.players(1)
        assert (
            publish(programs, clip, url("rtmp", port, stream), in_real_time=False).ends(
                _PUBLISHED_S
            )
            == 0
        )
        assert player.program.ends(_PLAYED_S) == 0
    assert player.packets() == packets


# --- Real clients' messages ---


def whole(connection: socket.socket, size: int) -> bytes:
    """The next ``size`` bytes."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, "the connection has ended"
        data += piece
    return data


@pytest.mark.parametrize("version", [6, 8])
@pytest.mark.parametrize("player_of", [RtmpdumpPlayer, current_ffmpeg_player])
def test_real_clients_begin_and_answer_as_the_gateway_does(
    player_of: Callable[[Programs, str], Player], version: int, programs: Programs
) -> None:
    with socket.create_server((LOOPBACK, 0)) as listening:
        listening.settimeout(20)
        player_of(programs, url("rtmpe", listening.getsockname()[1], "live/stream"))
        connection, _ = listening.accept()
    with connection:
        connection.settimeout(20)
        hello = whole(connection, 1 + _BLOCK_BYTES)
        own = RTMPEClientHandshake(0, _RANDOM)
        # C0, the version in C1, and the scheme.
        assert (hello[0], hello[5:9]) == (own.hello[0], own.hello[5:9])
        theirs, ours = find_digest(hello[1:], PLAYER), find_digest(own.hello[1:], PLAYER)
        assert theirs is not None
        assert ours is not None
        assert theirs.scheme is ours.scheme
        given = answer(version, hello[1:], 0, _RANDOM)
        connection.sendall(given.data)
        c2 = whole(connection, _BLOCK_BYTES)
        assert c2[-32:] == _digest_in_c2(c2, given.data, version)
        # The client has accepted the answer, and has the same keys.
        assert b"connect" in given.ciphers.received.update(whole(connection, 64))


def _digest_in_c2(c2: bytes, data: bytes, version: int) -> bytes:
    """The digest that the gateway would put into a C2 with the same random bytes."""
    found = find_digest(data[1 : 1 + _BLOCK_BYTES], SERVER)
    assert found is not None
    signed = sign_answer(c2[:-32], found.value, PLAYER)
    if version == 8:
        signed = encrypt_digest(signed, answer_key(found.value, PLAYER))
    return signed[-32:]
