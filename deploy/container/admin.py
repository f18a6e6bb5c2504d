"""Send a request to the gateway's admin server, for health checks: ``admin.py METHOD PATH [FILE]``.

The image has no curl. Address (TCP) and token are those of [admin] in the configuration FILE; the
server is asked without TLS. Prints the answer. The exit status is 0 if the answer's status is below 400,
or if the configuration has no [admin].
"""

from __future__ import annotations

import http.client
import sys
import tomllib
from pathlib import Path

CONFIGURATION = "/etc/rtmpt-gateway/rtmpt-gateway.toml"
TIMEOUT_S = 4.0
DEFAULT_ADDRESS = "127.0.0.1:9935"


def main(method: str, path: str, file: str = CONFIGURATION) -> int:
    settings = tomllib.loads(Path(file).read_text()).get("admin")
    if settings is None:
        return 0
    # Linux connects to this machine for 0.0.0.0 and [::] too.
    host, _, port = settings.get("address", DEFAULT_ADDRESS).rpartition(":")
    headers = {}
    if "token_file" in settings:
        headers["Authorization"] = f"Bearer {Path(settings['token_file']).read_text().strip()}"
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=TIMEOUT_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        print(answer.read().decode(errors="replace"), end="")
    except OSError as error:
        print(f"the admin server on {host}:{port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    return int(answer.status >= 400)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
