"""Makes ``twistd rtmpt-gateway`` known.

twistd imports this file for every command it runs, even for its own ``--help``, so it names the
service maker and imports nothing else.
"""

from twisted.application.service import ServiceMaker

rtmpt_gateway = ServiceMaker(
    "RTMPT gateway",
    "gateway.service",
    "RTMPT, RTMPTS, RTMPS and RTMP in front of any RTMP server.",
    "rtmpt-gateway",
)
