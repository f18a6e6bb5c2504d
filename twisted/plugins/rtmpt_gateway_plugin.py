"""twistd plugin that registers the command ``twistd rtmpt-gateway``.

twistd imports this file for every command, even for its own ``--help``. So it only names the module with
the service maker, and does not import it.
"""

from twisted.application.service import ServiceMaker

rtmpt_gateway = ServiceMaker(
    "RTMPT gateway",
    "gateway.service",
    "RTMPT, RTMPTS, RTMPS and RTMP in front of any RTMP server.",
    "rtmpt-gateway",
)
