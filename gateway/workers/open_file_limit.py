"""The limit on open files (RLIMIT_NOFILE): raised at the start, with a warning if it is too low."""

from __future__ import annotations

import resource

from twisted.logger import Logger

from gateway.descriptors import descriptors
from gateway.protocols.limits import Limits

_log = Logger()

# Listeners, logs, the reactor's own files, connections of the admin server and to the website.
_OTHERS = 300


def raise_limit(limits: Limits, others: int = 0) -> None:
    """Raise the soft limit to what ``limits`` need, or to the hard limit. Warns if that is too low.

    A tunnel needs two files: the client's connection and the upstream's. ``others``: how many are needed
    beside.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = limits.connections + limits.sessions + others + _OTHERS
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    limit = max(soft, wanted) if soft != resource.RLIM_INFINITY else needed
    descriptors.set_limit(limit, needed)
    if wanted < needed:
        _log.warn(
            "the limit on open files is {wanted}, but [limits] may need {needed}: raise LimitNOFILE= "
            "(systemd) or ulimit -Hn, or lower connections and sessions",
            wanted=wanted,
            needed=needed,
        )
