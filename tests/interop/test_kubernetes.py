"""deploy/kubernetes: valid objects, and configurations that route opens and commands to their pods."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import frozen

from gateway.configuration import loading
from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession, SessionEnded
from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.servers import LOOPBACK, ROOT, port_said, start_gateway

FOLDER = ROOT / "deploy/kubernetes"
ASK = ROOT / "deploy/container/admin.py"
_TOKEN = "0123456789abcdef0123456789abcdef"


def objects() -> list[dict[str, Any]]:
    return [
        each
        for file in sorted(FOLDER.glob("*.yaml"))
        for each in yaml.safe_load_all(file.read_text())
    ]


def find(kind: str, name: str) -> dict[str, Any]:
    (found,) = (
        each for each in objects() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


def pod_of(kind: str, name: str) -> dict[str, Any]:
    pod: dict[str, Any] = find(kind, name)["spec"]["template"]["spec"]
    return pod


_GATEWAYS = find("StatefulSet", "rtmpt-gateway")
_REPLICAS: int = _GATEWAYS["spec"]["replicas"]
_POD = pod_of("StatefulSet", "rtmpt-gateway")
_TOML: str = find("ConfigMap", "rtmpt-gateway")["data"]["rtmpt-gateway.toml"]
_HAPROXY: str = find("ConfigMap", "rtmpt-balancer")["data"]["haproxy.cfg"]


# --- objects ---


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.name)
def test_the_objects_are_valid(file: Path) -> None:
    command = [needs("kubernetes-validate"), "--strict", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "pod", [_POD, pod_of("Deployment", "rtmpt-balancer")], ids=["gateway", "balancer"]
)
def test_containers_have_no_privileges_and_write_no_image_files(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_selectors_match_the_pods() -> None:
    for service, kind in (("rtmpt-gateway", "StatefulSet"), ("rtmpt-balancer", "Deployment")):
        labels = find(kind, service)["spec"]["template"]["metadata"]["labels"]
        assert find("Service", service)["spec"]["selector"] == labels
        assert find(kind, service)["spec"]["selector"]["matchLabels"] == labels
        budget = find("PodDisruptionBudget", service)["spec"]
        assert budget["selector"]["matchLabels"] == labels


def test_the_termination_grace_period_of_a_pod_covers_the_drain() -> None:
    assert (
        _POD["terminationGracePeriodSeconds"]
        > loading.from_text("gateway.yaml", _TOML).limits.drain_s + 10
    )


def test_haproxy_has_a_backend_for_each_gateway() -> None:
    backends = re.findall(r"^backend node_(\w+)", _HAPROXY, re.MULTILINE)
    assert backends == [f"{number:02}" for number in range(_REPLICAS)]
    for number in range(_REPLICAS):
        host = f"rtmpt-gateway-{number}.{_GATEWAYS['spec']['serviceName']}.${{NAMESPACE}}."
        assert _HAPROXY.count(host) == 2


def test_environment_variables_for_haproxy_are_in_double_quotes() -> None:
    assert "${" not in re.sub(r'"[^"\n]*"', "", _HAPROXY)


def test_haproxy_accepts_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(_HAPROXY)
    done = subprocess.run(
        [needs("haproxy"), "-c", "-f", file],
        env={**os.environ, "NAMESPACE": "default", "TOKEN": _TOKEN},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


# --- the configurations, with addresses of this machine ---


@frozen
class Pod:
    """A gateway, with the configuration that its init container creates."""

    number: int
    program: Program
    port: int
    admin: int
    file: Path

    def ask(self, *words: str) -> int:
        """Run the command of a probe or hook. Returns its exit status."""
        command = [sys.executable, ASK, *words, self.file]
        return subprocess.run(command, capture_output=True, timeout=30).returncode


def own_configuration(number: int, folder: Path) -> str:
    """The result of the init container's commands in the pod with this ordinal."""
    (container,) = _POD["initContainers"]
    shell, option, script = container["command"]
    source, result = folder / "configuration", folder / "etc"
    for each in (source, result):
        each.mkdir()
    (source / "rtmpt-gateway.toml").write_text(_TOML)
    script = script.replace("/configuration", str(source)).replace(
        "/etc/rtmpt-gateway", str(result)
    )
    environment = {**os.environ, "HOSTNAME": f"rtmpt-gateway-{number}"}
    subprocess.run([shell, option, script], env=environment, check=True, timeout=30)
    return (result / "rtmpt-gateway.toml").read_text()


@pytest.mark.parametrize("number", [0, 7, 12])
def test_the_session_ids_of_a_pod_begin_with_its_ordinal(number: int, tmp_path: Path) -> None:
    assert (
        loading.from_text("gateway.yaml", own_configuration(number, tmp_path)).node.id
        == f"{number:02}"
    )


@pytest.fixture
def pods(programs: Programs, tmp_path: Path) -> Iterator[list[Pod]]:
    token = tmp_path / "token"
    token.write_text(_TOKEN + "\n")
    token.chmod(0o440)
    with echo_server() as upstream:
        yield [
            start(programs, number, tmp_path / str(number), token, upstream)
            for number in range(_REPLICAS)
        ]
        programs.stop()


def start(programs: Programs, number: int, folder: Path, token: Path, upstream: int) -> Pod:
    folder.mkdir()
    text = own_configuration(number, folder)
    for old, new in (
        ('"0.0.0.0:8080"', f'"{LOOPBACK}:0"'),
        ('"0.0.0.0:9935"', f'"{LOOPBACK}:0"'),
        ("media:1935", f"{LOOPBACK}:{upstream}"),
        ("10.244.0.0/16", "127.0.0.0/8"),
        ("/run/secrets/rtmpt-gateway/token", str(token)),
    ):
        assert old in text
        text = text.replace(old, new)
    file = folder / "rtmpt-gateway.toml"
    file.write_text(text)
    program, port = start_gateway(programs, "--config", str(file))
    admin = port_said(program, f"admin server on {LOOPBACK}:")
    # For the probes: the gateway has read the file already.
    file.write_text(
        text.replace(
            f'[admin]\naddress = "{LOOPBACK}:0"', f'[admin]\naddress = "{LOOPBACK}:{admin}"'
        )
    )
    return Pod(number, program, port, admin, file)


@pytest.fixture
def balancer(programs: Programs, pods: list[Pod]) -> int:
    """HAProxy with the embedded configuration and the test's pod addresses. Yields its port."""
    needs("haproxy")
    # The machine that tests may allow fewer open files.
    text = _HAPROXY.replace("maxconn 20000", "maxconn 1000")
    for pod in pods:
        name = f'"rtmpt-gateway-{pod.number}.rtmpt-gateway.${{NAMESPACE}}.svc.cluster.local:8080"'
        text = text.replace(name, f"{LOOPBACK}:{pod.port} port {pod.admin}")
    with (
        socket.create_server((LOOPBACK, 0), backlog=1024) as clients,
        socket.create_server((LOOPBACK, 0)) as health,
    ):
        for place, listening in (("bind :8080\n", clients), ("bind :8081\n", health)):
            assert place in text
            text = text.replace(place, f"bind fd@{listening.fileno()}\n")
        file = programs.new_folder("haproxy") / "haproxy.cfg"
        file.write_text(text)
        programs.start(
            *("haproxy", "-db", "-f", str(file)),
            environment={"NAMESPACE": "default", "TOKEN": _TOKEN},
            pass_fds=[clients.fileno(), health.fileno()],
        )
        port: int = clients.getsockname()[1]
    until(lambda: serving_nodes(port) == {f"{pod.number:02}" for pod in pods}, "all pods serve")
    return port


def serving_nodes(port: int) -> set[str]:
    """The nodes of some new sessions."""
    nodes = set()
    for _ in range(2 * _REPLICAS):
        try:
            session = NumberedSession(port, keeps=False)
            session.finish()
        except (SessionEnded, OSError):
            continue
        nodes.add(session.id[:2])
    return nodes


def test_commands_reach_their_pod_and_a_drained_pod_gets_no_new_session(
    pods: list[Pod], balancer: int
) -> None:
    sessions = [NumberedSession(balancer, keeps=False) for _ in range(30)]
    for session in sessions:
        session.step()
    assert {session.id[:2] for session in sessions} == {"00", "01", "02"}
    drained = pods[0]
    assert drained.ask("GET", "/readyz") == 0
    assert drained.ask("POST", "/drain") == 0
    assert drained.ask("GET", "/readyz") == 1
    assert drained.ask("GET", "/healthz") == 0
    until(lambda: serving_nodes(balancer) == {"01", "02"}, "HAProxy has noticed")
    for session in sessions:
        session.step()
        session.finish()


def test_the_hooks_and_probes_call_the_program_of_the_image() -> None:
    (container,) = _POD["containers"]
    commands = [
        *(
            container[f"{probe}Probe"]["exec"]["command"]
            for probe in ("startup", "liveness", "readiness")
        ),
        container["lifecycle"]["preStop"]["exec"]["command"][2].split(" && ")[0].split(),
    ]
    image = (ROOT / "deploy/container/Containerfile").read_text()
    for command in commands:
        assert f"COPY deploy/container/admin.py {command[1]}\n" in image
    assert [command[2:] for command in commands] == [
        *(["GET", "/healthz"], ["GET", "/healthz"], ["GET", "/readyz"], ["POST", "/drain"])
    ]
