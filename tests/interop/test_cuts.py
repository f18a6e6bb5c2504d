"""Connections cut during a tunnel, and the data that ffmpeg and rtmpdump still get.

Three comparisons: the data of whole answers with the data that the upstream sent; the data that the
upstream received with the data that the client sent, each byte once; and the packets that the client wrote.

The behaviour of the programs after a cut (FFmpeg 5.1, rtmpdump 2.4) determines the possible results:

- ffmpeg playing tries once more, on a new connection, what failed before it had the answer's whole head:
  as a send of the next number, whatever it was. It loses the packet at which it was interrupted, since
  its FLV reader takes the failure for a header of zeros and then looks for its place.
- ffmpeg playing gives up when it had the head of an answer and not the body.
- ffmpeg publishing, and rtmpdump, give up at any cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import frozen

from tests.helpers.interop.clients import FFmpegPlayer, Player, RtmpdumpPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.cutter import Cut, Cutter, Moment
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.relay import How
from tests.helpers.interop.servers import LOOPBACK, start_gateway, start_nginx
from tests.helpers.interop.tap import Tap, TappedLink
from tests.interop.conftest import Upstream
from tests.interop.test_play import MakePlayer

_PUBLISHED_S = 20.0
_PLAYED_S = 10.0
_GIVES_UP_S = 3.0
# The first keyframe has passed, and little more.
_PLAYING_BYTES = 5_000
_SILENT_S = 1.0

MakeCutter = Callable[[Cut], Cutter]

# The moments at which an exchange fails before ffmpeg has its answer's whole head.
BEFORE_WHOLE_HEAD = [
    Moment.IN_REQUEST,
    Moment.HELD,
    Moment.BEFORE_ANSWER,
    Moment.IN_ANSWER_HEAD,
    Moment.AFTER_ANSWER,
]

each_way = pytest.mark.parametrize("how", list(How))


@pytest.fixture
def make_cutter(gateway: int) -> Iterator[MakeCutter]:
    """Makes a cutter in front of the gateway."""
    cutters: list[Cutter] = []

    def make(cut: Cut) -> Cutter:
        cutters.append(Cutter(gateway, cut))
        return cutters[-1]

    yield make
    for cutter in cutters:
        cutter.close()


@frozen
class Stage:
    """The programs and the stream of one play."""

    programs: Programs
    upstream: Upstream
    stream: str

    def play(self, make_player: MakePlayer, cutter: Cutter, clip: Path) -> Player:
        """Let a player receive the clip live from its beginning, and cut its connection in the middle."""
        player = make_player(self.programs, url("rtmpt", cutter.port, self.stream))
        self.upstream.tap.players(1)
        publish(self.programs, clip, url("rtmp", self.upstream.tap.port, self.stream))
        until(lambda: len(cutter.received()) > _PLAYING_BYTES, "the player gets packets")
        cutter.arm()
        cutter.has_cut()
        return player

    @property
    def link(self) -> TappedLink:
        """The gateway's connection to the upstream."""
        return self.upstream.tap.links[0]


@pytest.fixture
def stage(programs: Programs, upstream: Upstream, stream: str) -> Stage:
    return Stage(programs, upstream, stream)


def assert_told_exactly(cutter: Cutter, link: TappedLink) -> None:
    """Client and upstream have received each other's data completely, in order and once."""
    assert link.down.startswith(cutter.received())
    assert bytes(link.up) == b"".join(cutter.sent())


def assert_all_but_one(got: list[Packet], sent: list[Packet]) -> None:
    """One packet, which ffmpeg itself loses, is missing, and the others are in order."""
    (lost,) = [index for index in range(len(sent)) if got == sent[:index] + sent[index + 1 :]]
    assert 0 < lost < len(sent) - 1


@each_way
@pytest.mark.parametrize("moment", BEFORE_WHOLE_HEAD)
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_ffmpeg_continues_playing_after_a_cut_before_the_end_of_an_answers_head(
    how: How,
    moment: Moment,
    stage: Stage,
    make_cutter: MakeCutter,
    sparse_clip: Path,
    sparse_packets: list[Packet],
) -> None:
    cutter = make_cutter(Cut(moment, how))
    player = stage.play(FFmpegPlayer, cutter, sparse_clip)
    assert player.program.ends(_PLAYED_S) == 0
    assert_told_exactly(cutter, stage.link)
    assert_all_but_one(player.packets(), sparse_packets)


@pytest.mark.parametrize("moment", BEFORE_WHOLE_HEAD)
@pytest.mark.parametrize("upstream", ["origin"], indirect=True)
def test_ffmpeg_continues_when_the_gateway_does_not_notice_the_cut(
    moment: Moment,
    stage: Stage,
    make_cutter: MakeCutter,
    sparse_clip: Path,
    sparse_packets: list[Packet],
) -> None:
    cutter = make_cutter(Cut(moment, How.RESET, unnoticed=True))
    player = stage.play(FFmpegPlayer, cutter, sparse_clip)
    assert player.program.ends(_PLAYED_S) == 0
    assert_told_exactly(cutter, stage.link)
    assert_all_but_one(player.packets(), sparse_packets)


@pytest.fixture
def eager_for_acknowledgements(programs: Programs, clips: Path) -> Iterator[Upstream]:
    """An upstream that makes ffmpeg send an acknowledgement every 10 kB."""
    program, port = start_nginx(programs, clips, window_bytes=20_000)
    with closing(Tap(port)) as tap:
        yield Upstream(program, tap)


def start_unstreamed(programs: Programs, upstream: Upstream) -> int:
    """The port of a gateway that answers each command as a whole: of a cut in a streamed answer, FFmpeg
    does not recover."""
    path = programs.new_folder("whole") / "gateway.toml"
    path.write_text(
        f'[[listener]]\naddress = "{LOOPBACK}:0"\n[[upstream]]\nservers = ["{upstream.server}"]\n'
        '[tunnel]\nstreamed_answers = "never"\n'
    )
    _, port = start_gateway(programs, "--config", str(path))
    return port


@pytest.mark.parametrize("moment", [Moment.IN_REQUEST, Moment.BEFORE_ANSWER])
def test_commands_of_a_playing_ffmpeg_are_sent_upstream_once(
    moment: Moment,
    programs: Programs,
    eager_for_acknowledgements: Upstream,
    stream: str,
    clip: Path,
) -> None:
    upstream = eager_for_acknowledgements
    port = start_unstreamed(programs, upstream)
    stage = Stage(programs, upstream, stream)
    with closing(Cutter(port, Cut(moment, How.FIN, command=b"send"))) as cutter:
        player = stage.play(FFmpegPlayer, cutter, clip)
        assert player.program.ends(_PLAYED_S) == 0
        assert_told_exactly(cutter, stage.link)


@each_way
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_ffmpeg_ends_with_correct_data_after_a_cut_in_the_body_of_an_answer(
    how: How,
    stage: Stage,
    make_cutter: MakeCutter,
    sparse_clip: Path,
    sparse_packets: list[Packet],
) -> None:
    cutter = make_cutter(Cut(Moment.IN_ANSWER_BODY, how))
    player = stage.play(FFmpegPlayer, cutter, sparse_clip)
    player.program.ends(_GIVES_UP_S)
    assert cutter.after_cut() == []
    assert_told_exactly(cutter, stage.link)
    got = player.packets()
    assert got == sparse_packets[: len(got)]


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_rtmpdump_ends_after_a_cut_with_correct_data(
    moment: Moment,
    stage: Stage,
    make_cutter: MakeCutter,
    sparse_clip: Path,
    sparse_packets: list[Packet],
) -> None:
    cutter = make_cutter(Cut(moment, How.FIN))
    player = stage.play(RtmpdumpPlayer, cutter, sparse_clip)
    assert player.program.ends(_GIVES_UP_S) != 0
    assert_told_exactly(cutter, stage.link)
    got = player.packets()
    assert got
    assert got == sparse_packets[: len(got)]


@pytest.mark.parametrize("moment", [Moment.IN_REQUEST, Moment.BEFORE_ANSWER, Moment.IN_ANSWER_HEAD])
def test_data_of_a_publishing_ffmpeg_is_sent_upstream_before_a_cut_ends_the_session(
    moment: Moment,
    programs: Programs,
    upstream: Upstream,
    stream: str,
    make_cutter: MakeCutter,
    clip: Path,
    packets: list[Packet],
) -> None:
    cutter = make_cutter(Cut(moment, How.FIN, command=b"send"))
    player = FFmpegPlayer(programs, url("rtmp", upstream.tap.port, stream))
    upstream.tap.players(1)
    publisher = publish(programs, clip, url("rtmpt", cutter.port, stream))
    until(lambda: len(cutter.sent()) > 8, "ffmpeg publishes")
    cutter.arm()
    assert publisher.ends(_PUBLISHED_S) != 0
    # The player is told at once that the publisher has left.
    player.program.ends(_GIVES_UP_S)
    assert bytes(upstream.tap.links[1].up) == b"".join(cutter.sent())
    got = player.packets()
    assert got
    assert got == packets[: len(got)]


@pytest.mark.parametrize("upstream", ["nginx"], indirect=True)
def test_the_session_and_the_upstream_connection_of_a_killed_client_end(
    programs: Programs, upstream: Upstream, stream: str, tmp_path: Path
) -> None:
    configuration = tmp_path / "gateway.toml"
    configuration.write_text(
        f'[[listener]]\naddress = "{LOOPBACK}:0"\n'
        f'[[upstream]]\nservers = ["{upstream.server}"]\n'
        f"[limits]\nsilent_session_s = {_SILENT_S}\n"
    )
    gateway, port = start_gateway(programs, "--config", str(configuration))
    player = RtmpdumpPlayer(programs, url("rtmpt", port, stream))
    upstream.tap.players(1)
    player.program.kill()
    until(lambda: upstream.tap.links[0].ended, "the upstream connection ends")
    assert "ended: nothing more from the client" in gateway.log
