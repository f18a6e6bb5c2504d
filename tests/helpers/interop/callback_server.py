"""An HTTP server as operators have it behind nginx-rtmp's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, final
from urllib.parse import parse_qsl, urlsplit

from tests.helpers.interop.servers import LOOPBACK

# The parameters of a call, and the status and Location of its answer.
Answer = Callable[[dict[str, str]], tuple[int, str]]


@final
class CallbackServer:
    """``calls``: the parameters of each call, in order. ``headers``: those of the last one. A call waits
    while ``goes_on`` is not set.
    """

    def __init__(self, answer: Answer = lambda _: (200, "")) -> None:
        self.calls: list[dict[str, str]] = []
        self.headers: dict[str, str] = {}
        self.goes_on = Event()
        self.goes_on.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self._serve(self.rfile.read(length).decode())

            def do_GET(self) -> None:
                self._serve(urlsplit(self.path).query)

            def _serve(self, query: str) -> None:
                parameters = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))
                server.calls.append(parameters)
                server.headers = dict(self.headers)
                server.goes_on.wait()
                status, location = answer(parameters)
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Not to standard error."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_address[1]}/"

    def named(self, call: str) -> list[dict[str, str]]:
        """The calls of one callback."""
        return [each for each in self.calls if each["call"] == call]

    def close(self) -> None:
        self.goes_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
