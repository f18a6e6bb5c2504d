"""An RTMP client without a socket, for tests of a server."""

from __future__ import annotations

from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ClientHandshake
from gateway.protocols.rtmp.messages import Message, MessageType

MEDIA_TYPES = {MessageType.AUDIO, MessageType.VIDEO, MessageType.DATA}

METADATA = b"\x02\x00\x0aonMetaData\x08\x00\x00\x00\x00\x00\x00\x09"
SET_METADATA = b"\x02\x00\x0d@setDataFrame" + METADATA
VIDEO_HEADER = b"\x17\x00\x00\x00\x00avcC"
AUDIO_HEADER = b"\xaf\x00\x12\x10"
KEYFRAME = b"\x17\x01\x00\x00\x00key"
INTER_FRAME = b"\x27\x01\x00\x00\x00inter"
SOUND = b"\xaf\x01sound"


def video(payload: bytes, timestamp: int = 0) -> Message:
    return Message(MessageType.VIDEO, payload, 1, timestamp)


def audio(payload: bytes = SOUND, timestamp: int = 0) -> Message:
    return Message(MessageType.AUDIO, payload, 1, timestamp)


def data(payload: bytes, timestamp: int = 0) -> Message:
    return Message(MessageType.DATA, payload, 1, timestamp)


class Client:
    """Pass the server's bytes to ``receive``; send the bytes that ``hello`` and the calls return."""

    def __init__(self) -> None:
        self._handshake = ClientHandshake(0, bytes(RANDOM_BYTES))
        self._reader = ChunkReader()
        self._writer = ChunkWriter()
        self.messages: list[Message] = []

    def hello(self) -> bytes:
        return self._handshake.hello

    @property
    def handshaken(self) -> bool:
        return self._handshake.done

    def receive(self, received: bytes) -> bytes:
        """Read the server's bytes. Returns the bytes to send."""
        answer = b""
        if not self._handshake.done:
            answer = self._handshake.receive(received)
            received = self._handshake.rest
        self.messages += self._reader.feed(received)
        return answer

    def write(self, message: Message) -> bytes:
        return self._writer.write(message)

    def call(self, name: str, transaction: float, *arguments: Value, stream_id: int = 0) -> bytes:
        return self.write(Command(name, transaction, None, arguments, stream_id).message())

    def connect(self, app: str = "live") -> bytes:
        asked: Value = {"app": app, "tcUrl": f"rtmp://host/{app}", "flashVer": "test"}
        return self.write(Command("connect", 1.0, asked).message())

    def take_messages(self) -> list[Message]:
        taken, self.messages = self.messages, []
        return taken

    def take_media(self) -> list[tuple[bytes, int]]:
        """Payload and timestamp of the media received since the last time."""
        messages = self.take_messages()
        return [(each.payload, each.timestamp) for each in messages if each.type in MEDIA_TYPES]

    def take_said(self) -> list[str]:
        """The names of the commands received since the last time; statuses by their code."""
        commands = [read_command(message) for message in self.take_messages()]
        return [_said(command) for command in commands if command]


def _said(command: Command) -> str:
    information = command.argument(0)
    if command.name == "onStatus" and isinstance(information, dict):
        return str(information["code"])
    return command.name
