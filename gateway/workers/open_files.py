"""How many files this process may have open: as many as it is allowed, and a word if that is too few."""

from __future__ import annotations

import resource

from twisted.logger import Logger

from gateway.descriptors import descriptors
from gateway.protocols.limits import Limits

_log = Logger()

# Listeners, logs, the reactor's own, connections of the admin server and to the website.
_OTHERS = 300


def raise_limit(limits: Limits) -> None:
    """Let as many files be open as this process may ask for; warn when the limits need more.

    A tunnel takes two, its client's connection and its upstream's.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = limits.connections + limits.sessions + _OTHERS
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    limit = max(soft, wanted) if soft != resource.RLIM_INFINITY else needed
    descriptors.set_limit(limit, needed)
    if wanted < needed:
        _log.warn(
            "only {wanted} files may be open here, and [limits] may need {needed}: raise LimitNOFILE= "
            "(systemd) or ulimit -Hn, or lower connections and sessions",
            wanted=wanted,
            needed=needed,
        )
