"""Messages from a server to its clients: results of calls, stream statuses, and notices.

The codes are those of Adobe's ActionScript reference (``NetStatusEvent.info``). Clients act on the codes,
and on no other part of a status.
"""

from __future__ import annotations

from typing import Final

from gateway.protocols.access import Action
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.commands import Command, ConnectRequest
from gateway.protocols.rtmp.messages import Message

# Clients look for this form and for a number not older than live streaming.
_SERVER: Final = "FMS/3,5,7,7009"
_CAPABILITIES: Final = 31.0
# Enhanced RTMP: every codec can be forwarded (4), and multitrack (2), ModEx (4) and nanosecond
# timestamps (8) pass as they are.
_ENHANCED: Final[dict[str, Value]] = {
    "fourCcList": ["*"],
    "videoFourCcInfoMap": {"*": 4.0},
    "audioFourCcInfoMap": {"*": 4.0},
    "capsEx": 14.0,
}

_REFUSALS: Final = {
    Action.PUBLISH: "NetStream.Publish.BadName",
    Action.PLAY: "NetStream.Play.Failed",
}


def result(call: Command, command_object: Value, *arguments: Value) -> Message:
    """The ``_result`` for ``call``."""
    return Command("_result", call.transaction, command_object, arguments).message()


def status(stream_id: int, code: str, description: str, level: str = "status") -> Message:
    """An ``onStatus`` for one message stream; ``level`` is status, warning or error."""
    return notice("onStatus", stream_id, code, description, level)


def notice(
    name: str, stream_id: int, code: str, description: str, level: str = "status"
) -> Message:
    """A call to the client without a result, with an information object as its argument."""
    information: Value = {"level": level, "code": code, "description": description}
    return Command(name, 0.0, None, (information,), stream_id).message()


def request_refused(action: Action, stream_id: int, description: str) -> Message:
    """The error for a publish or play that is not accepted."""
    return status(stream_id, _REFUSALS[action], description, "error")


def connect_failed(transaction: float, description: str) -> Message:
    """The error for a connect that no server can be found for."""
    information: Value = {
        "level": "error",
        "code": "NetConnection.Connect.Failed",
        "description": description,
    }
    return Command("_error", transaction, None, (information,)).message()


def connect_result(call: Command, request: ConnectRequest) -> Message:
    """The result of an accepted connect."""
    server: dict[str, Value] = {"fmsVer": _SERVER, "capabilities": _CAPABILITIES, "mode": 1.0}
    if request.enhanced:
        server |= _ENHANCED
    information: dict[str, Value] = {
        "level": "status",
        "code": "NetConnection.Connect.Success",
        "description": "Connection succeeded.",
        "objectEncoding": request.object_encoding,
    }
    return result(call, server, information)
