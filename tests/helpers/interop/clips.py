"""Video clips for tests, and lists of packets to compare input and output."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.helpers.interop.programs import needs

# A packet as far as it must arrive unchanged: its stream, and the hash of its payload.
Packet = tuple[int, str]

_MAKE_S = 60.0
_READ_S = 30.0
# H.264 and AAC from the test sources; ultrafast, since only the packets matter.
_VIDEO = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
_CLIP = (
    *("-f", "lavfi", "-i", "testsrc=size=320x180:rate=25:duration=3"),
    *("-f", "lavfi", "-i", "sine=sample_rate=44100:duration=3"),
    *(*_VIDEO, "-g", "25", "-b:v", "800k", "-c:a", "aac", "-b:a", "64k"),
)
# Ten pictures a second and no sound: an idle waits for 0.1 s, time enough to cut it. Small, because
# FFmpeg's FLV reader finds its place again after an interruption only while all that it looks at is in
# its buffer, which it begins anew every 32 KiB.
_SPARSE_CLIP = (
    *("-f", "lavfi", "-i", "testsrc=size=64x36:rate=10:duration=2"),
    *(*_VIDEO, "-g", "10", "-b:v", "30k"),
)
# Silence alone, each frame of it 128 ms: what FFmpeg sends of it over RTMPT is the same each time.
_SILENT_CLIP = ("-f", "lavfi", "-i", "anullsrc=sample_rate=8000:channel_layout=mono:duration=60")
_LARGE_CLIP = (
    *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=4,noise=alls=60:allf=t"),
    *(*_VIDEO, "-g", "25", "-qp", "18"),
)


def make_clip(path: Path) -> Path:
    """A clip with video and audio, about 200 packets."""
    return _make(path, _CLIP)


def make_long_clip(path: Path) -> Path:
    """A clip as ``make_clip``, but of 20 s: longer than the data that a server sends ahead."""
    return make_clip_of(path, 20)


def make_clip_of(path: Path, seconds: int) -> Path:
    """A clip as ``make_clip``, of that duration."""
    return _make(path, tuple(word.replace("duration=3", f"duration={seconds}") for word in _CLIP))


def make_sparse_clip(path: Path) -> Path:
    """A clip with few and small video frames."""
    return _make(path, _SPARSE_CLIP)


def make_large_clip(path: Path) -> Path:
    """A clip with about 20 MB of video that does not compress."""
    return _make(path, _LARGE_CLIP)


def make_silent_clip(path: Path) -> Path:
    """A clip of one minute of silence, about 470 packets."""
    return _make(path, (*_SILENT_CLIP, "-c:a", "aac"))


def _make(path: Path, words: tuple[str, ...]) -> Path:
    command = [needs("ffmpeg"), "-v", "error", *words, "-f", "flv", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=_MAKE_S)
    return path


def packets_of_media(path: Path) -> list[Packet]:
    """All packets of a media file, in file order."""
    command = [needs("ffmpeg"), "-v", "error", "-i", str(path), *HASHES, "-"]
    done = subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=_READ_S
    )
    return _packets(done.stdout.decode())


def of_stream(packets: list[Packet], index: int) -> list[Packet]:
    return [packet for packet in packets if packet[0] == index]


def lacks_at_most_the_last(received: list[Packet], sent: list[Packet]) -> bool:
    """Whether all packets of each stream are as they were sent, but for one at the end of one stream.

    At the end of a stream, rtmp2src drops the last packet, also of nginx-rtmp itself.
    """
    for index in (0, 1):
        of_one = of_stream(received, index)
        if of_one != of_stream(sent, index)[: len(of_one)]:
            return False
    return len(sent) - len(received) in (0, 1)


# FFmpeg's output options for the packets as they came in, hashed.
HASHES = ("-c", "copy", "-f", "framehash", "-hash", "md5", "-flush_packets", "1")


def packets_of_hashes(path: Path) -> list[Packet]:
    """The packets in FFmpeg's output with ``HASHES``; empty if there is no output yet."""
    return _packets(path.read_text()) if path.exists() else []


def _packets(lines: str) -> list[Packet]:
    return [
        (int(fields[0]), fields[-1].strip())
        for line in lines.splitlines()
        if not line.startswith("#") and len(fields := line.split(",")) == 6
    ]
