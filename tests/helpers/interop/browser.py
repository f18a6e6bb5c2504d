"""Headless Chromium, controlled by its DevTools protocol: contents, console errors, screenshots."""

from __future__ import annotations

import json
import shutil
from base64 import b64decode
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from websockets.sync.client import connect

from tests.helpers.interop.programs import Program, Programs, needs, until

_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--remote-debugging-port=0"),
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# A page that is not there by then will not come.
_DEADLINE_S = 20.0


def chromium() -> str:
    """The browser's path; without one the test is skipped."""
    return next(filter(None, map(shutil.which, _NAMES)), None) or needs(_NAMES[0])


@final
class Browser:
    """One page. ``complaints`` are errors and warnings of its console, and what its policy blocked.

    ``requests``: the addresses of all requests, once ``record_requests`` was called. ``options``: further
    arguments of the program.
    """

    def __init__(self, programs: Programs, *options: str) -> None:
        profile = programs.new_folder("profile")
        self._program: Program = programs.start(
            chromium(), *_OPTIONS, *options, f"--user-data-dir={profile}", "about:blank"
        )
        self._numbers = count(1)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        address = self._program.says("DevTools listening on ws://", _DEADLINE_S)
        self._open = ExitStack()
        self._socket = self._open.enter_context(connect(f"ws://{address}", max_size=None))
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol, to the page."""
        return self._call(method, **parameters)

    def record_requests(self) -> None:
        """Note the address of each request from now on."""
        self.call("Network.enable")

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Show the page on a screen of this size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; of a promise, its result."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str, deadline_s: float = _DEADLINE_S) -> Any:
        """Wait until an expression in the page is true."""
        return until(lambda: self.evaluate(expression), f"{expression} in the page", deadline_s)

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(b64decode(found["data"]))

    def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        command: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        self._socket.send(json.dumps(command))
        while True:
            message = json.loads(self._socket.recv(_DEADLINE_S))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled":
            if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(parameters["args"]))
        elif event.get("method") == "Log.entryAdded":
            if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(str(parameters["entry"]))
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event.get("method") == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {parameters['message']}")
