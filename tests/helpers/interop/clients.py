"""The command lines of ffmpeg and rtmpdump as publishers and players."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, final

import imageio_ffmpeg

from tests.helpers.interop.clips import HASHES, Packet, packets_of_hashes, packets_of_media
from tests.helpers.interop.programs import Program, Programs, needs
from tests.helpers.interop.servers import LOOPBACK

# FFmpeg sends what it publishes over RTMPT after each tenth packet, and ends without sending the rest,
# whoever the server is (PROTOCOL.md, What each client needs).
LOST_BY_FFMPEG = 9
# Warnings only: at its usual level ffmpeg writes a line for each request.
_QUIETLY = ("-nostdin", "-nostats", "-loglevel", "warning")


def url(protocol: str, port: int, path: str) -> str:
    return f"{protocol}://{LOOPBACK}:{port}/{path}"


def publish(
    programs: Programs,
    clip: Path,
    to: str,
    *,
    in_real_time: bool = True,
    in_a_loop: bool = False,
    program: str = "ffmpeg",
    inside: tuple[str, ...] = (),
) -> Program:
    """Publish ``clip`` with ffmpeg, once or in a loop. ``inside``: the words before a command that runs
    in a network namespace.
    """
    pace = ("-re",) if in_real_time else ()
    loop = ("-stream_loop", "-1") if in_a_loop else ()
    return programs.start(
        *(*inside, needs(program), *_QUIETLY, *pace, *loop),
        *("-i", str(clip), "-c", "copy", "-f", "flv", to),
    )


def publish_by_gstreamer(
    programs: Programs, clip: Path, to: str, inside: tuple[str, ...] = ()
) -> Program:
    """Publish ``clip`` with rtmp2sink, which has RTMP of its own, as OBS has.

    ``inside``: as in ``publish``.
    """
    return programs.start(
        *(*inside, needs("gst-launch-1.0"), "-q"),
        *("filesrc", f"location={clip}", "!", "flvdemux", "name=in"),
        *(
            "flvmux",
            "name=out",
            "streamable=true",
            "!",
            "rtmp2sink",
            "sync=false",
            f"location={to}",
        ),
        *("in.video", "!", "queue", "!", "out.video", "in.audio", "!", "queue", "!", "out.audio"),
    )


class Player(Protocol):
    """A running player, and the packets it has received."""

    program: Program

    def packets(self) -> list[Packet]: ...


@final
class FFmpegPlayer:
    """ffmpeg, which writes the hash of each received packet."""

    def __init__(
        self,
        programs: Programs,
        source: str,
        program: str = "ffmpeg",
        environment: Mapping[str, str] | None = None,
        inside: tuple[str, ...] = (),
    ) -> None:
        self._hashes = programs.new_folder("played") / "hashes"
        self.program = programs.start(
            *(*inside, needs(program), *_QUIETLY, "-i", source, *HASHES, str(self._hashes)),
            environment=environment,
        )

    def packets(self) -> list[Packet]:
        return packets_of_hashes(self._hashes)


def current_ffmpeg_player(programs: Programs, source: str) -> FFmpegPlayer:
    """The newest FFmpeg, which Debian does not have yet."""
    return FFmpegPlayer(programs, source, imageio_ffmpeg.get_ffmpeg_exe())


@final
class GStreamerPlayer:
    """rtmpsrc, which uses librtmp, and writes an FLV file."""

    def __init__(self, programs: Programs, source: str) -> None:
        self._file = programs.new_folder("played") / "file.flv"
        live = " live=1" if "/live/" in source else ""
        self.program = programs.start(
            *("gst-launch-1.0", "-q", "rtmpsrc", f"location={source}{live}"),
            *("!", "filesink", f"location={self._file}", "buffer-mode=unbuffered"),
        )

    @property
    def size_bytes(self) -> int:
        return self._file.stat().st_size if self._file.exists() else 0

    def packets(self) -> list[Packet]:
        # The file ends anywhere, in the middle of the last packet.
        return packets_of_media(self._file)[:-1]


@final
class GStreamer2Player:
    """rtmp2src, which writes an FLV file."""

    def __init__(self, programs: Programs, source: str, inside: tuple[str, ...] = ()) -> None:
        self._file = programs.new_folder("played") / "file.flv"
        self.program = programs.start(
            *(*inside, needs("gst-launch-1.0"), "-q", "rtmp2src", f"location={source}"),
            *("!", "filesink", f"location={self._file}", "buffer-mode=unbuffered"),
        )

    def packets(self) -> list[Packet]:
        return packets_of_media(self._file)


@final
class RtmpdumpPlayer:
    """rtmpdump, which writes an FLV file; it cannot detect live streams, so an option says this."""

    def __init__(self, programs: Programs, source: str) -> None:
        self._file = programs.new_folder("played") / "file.flv"
        live = ("--live",) if "/live/" in source else ()
        self.program = programs.start("rtmpdump", *live, "-r", source, "-o", str(self._file))

    def packets(self) -> list[Packet]:
        return packets_of_media(self._file)
