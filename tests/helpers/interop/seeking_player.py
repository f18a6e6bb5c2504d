"""A player that pauses and seeks, on FFmpeg's libavformat, since the ``ffmpeg`` program does neither.

Usage: ``python -m tests.helpers.interop.seeking_player URL [pause AFTER SECONDS | seek AFTER TO]``. After
AFTER packets it pauses for SECONDS, or seeks to TO seconds. Prints one line for each packet (stream index
and payload hash), and ``paused`` or ``seeked`` with the return values of libavformat.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import sys
from time import sleep

_MICROSECONDS = 1_000_000


class _Packet(ctypes.Structure):
    """The beginning of libavcodec/packet.h's AVPacket."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("pts", ctypes.c_int64),
        ("dts", ctypes.c_int64),
        ("data", ctypes.POINTER(ctypes.c_uint8)),
        ("size", ctypes.c_int),
        ("stream_index", ctypes.c_int),
    )


def is_there() -> bool:
    """Whether the libraries are installed."""
    return bool(ctypes.util.find_library("avformat") and ctypes.util.find_library("avcodec"))


def _library(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library(name))


class _Source:
    def __init__(self, url: str) -> None:
        self._format, self._codec, util = (
            _library(name) for name in ("avformat", "avcodec", "avutil")
        )
        self._codec.av_packet_alloc.restype = ctypes.POINTER(_Packet)
        self._format.av_seek_frame.argtypes = (
            *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int),
        )
        options = ctypes.c_void_p()
        util.av_dict_set(ctypes.byref(options), b"rtmp_live", b"recorded", 0)
        self._context = ctypes.c_void_p()
        opened = self._format.avformat_open_input(
            ctypes.byref(self._context), url.encode(), None, ctypes.byref(options)
        )
        if opened:
            raise SystemExit(f"cannot open {url}: {opened}")
        self._packet = self._codec.av_packet_alloc()

    def next_packet(self) -> str | None:
        if self._format.av_read_frame(self._context, self._packet) < 0:
            return None
        packet = self._packet.contents
        payload = ctypes.string_at(packet.data, packet.size)
        line = f"{packet.stream_index} {hashlib.md5(payload).hexdigest()}"
        self._codec.av_packet_unref(self._packet)
        return line

    def pause(self, seconds: float) -> str:
        paused = self._format.av_read_pause(self._context)
        sleep(seconds)
        return f"paused {paused} {self._format.av_read_play(self._context)}"

    def seek(self, to_s: float) -> str:
        at = int(to_s * _MICROSECONDS)
        return f"seeked {self._format.av_seek_frame(self._context, -1, at, 0)}"


def _main(url: str, what: str = "", after: str = "-1", how: str = "0") -> None:
    source = _Source(url)
    count = 0
    while (line := source.next_packet()) is not None:
        print(line, flush=True)
        count += 1
        if count == int(after):
            print(getattr(source, what)(float(how)), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
