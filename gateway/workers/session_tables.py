"""The tables of a worker's sessions, tunnels and relays, created with their router, limits and access
control.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import Any, final

from gateway.configuration.sections import Config
from gateway.telemetry.sessions import Sessions
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import SessionIds
from gateway.tunnels.introducing import Means
from gateway.tunnels.relay_table import RelayTable
from gateway.tunnels.routing import Router
from gateway.tunnels.table import SessionTable
from gateway.upstreams.mirrors import Mirrors
from gateway.workers.access import Access
from gateway.workers.backends import Backends
from gateway.workers.configured_routes import routes_of
from gateway.workers.place import Place


@final
class SessionTables:
    """``find_elsewhere`` finds sessions of other workers; ``later`` calls a function in the reactor's next
    iteration.
    """

    def __init__(
        self,
        configuration: Config,
        place: Place,
        admission: Admission,
        backends: Backends,
        find_elsewhere: Callable[[bytes], Any],
        access: Access,
        mirrors: Mirrors,
        telemetry: Sessions,
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        limits, tunnel = configuration.limits, configuration.tunnel
        ids = self.ids = SessionIds(configuration.node.id, place.number, os.urandom)
        self.router = Router(
            routes_of(configuration),
            Means(backends.connect, limits, monotonic, later, os.urandom, telemetry),
        )
        of_both = (access.control, mirrors.reader, backends.terminate)
        self.tunnels = SessionTable(
            *(limits, tunnel.hold_s, admission, ids, self.router.connect, monotonic),
            *(telemetry, telemetry.measure, tunnel.streamed_answers, tunnel.answer_s),
            *(find_elsewhere, *of_both),
        )
        self.relays = RelayTable(
            *(limits, admission, ids.next_alias, self.router.connect, monotonic),
            *(telemetry, telemetry.measure, *of_both),
        )
