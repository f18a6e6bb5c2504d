"""twistd plugin that registers the command ``twistd rtmpt-client``; see rtmpt_gateway_plugin.py."""

from twisted.application.service import ServiceMaker

rtmpt_client = ServiceMaker(
    "RTMPT client",
    "gateway.client.service",
    "Local RTMP programs reach a gateway by the first way that works.",
    "rtmpt-client",
)
