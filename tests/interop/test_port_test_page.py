"""The page of the port test in headless Chromium, with ports that proxies disturb.

One run of the page tests five ports at once: two of the gateway, one behind a proxy that buffers answers,
one behind HAProxy that cuts waiting requests, and one that refuses connections. Its longest wait is 15 s,
so the tests share this run. Screenshots are in the test's temporary folder.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from attrs import define

from tests.helpers.interop.as_systemd import Systemd
from tests.helpers.interop.between import start_between
from tests.helpers.interop.browser import Browser
from tests.helpers.interop.programs import Programs, needs
from tests.helpers.interop.secure import make_authority
from tests.helpers.interop.servers import LOOPBACK

NAME = "media.example.org"
_CONFIGURATION = """
workers = 2
[[upstream]]
servers = ["{loopback}:9"]
[[listener]]
address = "systemd:http"
[[listener]]
address = "systemd:https"
tls = true
[tls]
certificates = ["{certificate}"]
[website]
server = "{loopback}:9"
[admin]
address = "{loopback}:0"
[port_test]
enabled = true
public_ports = [{ports}]
"""
_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 3s
listen relay
    bind fd@{descriptor}
    server gateway {server}
"""
# The elements whose text is too faint on their ground, or that reach out of the screen.
_AUDIT = (Path(__file__).parent / "page_audit.js").read_text()


@define
class Run:
    """A finished run of the page. ``ways``: the ports by what is in front of them."""

    browser: Browser
    ways: dict[str, str]
    folder: Path
    metrics: str

    def card(self, name: str) -> str:
        """The text of a port's card."""
        text: str = self.browser.evaluate(f"{self._selected(name)}.innerText")
        return text

    def step(self, name: str, step: str) -> str:
        item = f"{self._selected(name)}.querySelector('[data-step={step}] .value').textContent"
        text: str = self.browser.evaluate(item)
        return text

    def _selected(self, name: str) -> str:
        return f"document.querySelector('[data-way=\"{self.ways[name]}\"]')"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    programs = Programs(tmp_path_factory.mktemp("page"))
    yield programs
    programs.stop()


@pytest.fixture(scope="module")
def run(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    systemd = Systemd(programs, folder, ("http", "https"))
    server = f"{LOOPBACK}:{systemd.ports['http']}"
    words = ("buffer", "0", str(systemd.ports["http"]))
    with socket.socket() as refusing:
        refusing.bind((LOOPBACK, 0))
        ways = {
            "plain": f"http:{systemd.ports['http']}",
            "secure": f"https:{systemd.ports['https']}",
            "buffering": f"http:{start_between(programs, (), *words)}",
            "cutting": f"http:{start_cutting(programs, server)}",
            "refusing": f"http:{refusing.getsockname()[1]}",
        }
        path = folder / "gateway.toml"
        path.write_text(
            _CONFIGURATION.format(
                loopback=LOOPBACK,
                certificate=make_authority(folder).certify("site.pem", NAME),
                ports=", ".join(f'"{way}"' for way in ways.values()),
            )
        )
        gateway = systemd.start(path)
        gateway.says("ready: ")
        admin_port = int(gateway.says(f"admin server on {LOOPBACK}:").split("/")[0].split()[0])
        options = (f"--host-resolver-rules=MAP {NAME} {LOOPBACK}", "--ignore-certificate-errors")
        with closing(systemd), Browser(programs, *options) as browser:
            browser.record_requests()
            browser.resize(1280, 900)
            browser.open(f"http://{NAME}:{systemd.ports['http']}/port-test")
            browser.until("document.body?.dataset.done === 'true'", 60)
            yield Run(browser, ways, folder, metrics_of(admin_port))


def start_cutting(programs: Programs, server: str) -> int:
    with socket.create_server((LOOPBACK, 0)) as listening:
        path = programs.new_folder("haproxy") / "haproxy.cfg"
        path.write_text(_HAPROXY.format(descriptor=listening.fileno(), server=server))
        programs.start(*(needs("haproxy"), "-db", "-f", str(path)), pass_fds=[listening.fileno()])
        port: int = listening.getsockname()[1]
    return port


def metrics_of(port: int) -> str:
    with urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def test_ports_that_pass_everything_work(run: Run) -> None:
    for name in ("plain", "secure"):
        card = run.card(name)
        assert card.splitlines()[1] == "works", card
        assert run.step(name, "hold") == "15 s"
        assert run.step(name, "upload") == "whole"
        assert run.step(name, "pieces") == "at once"
        assert run.step(name, "tunnel").endswith("ms"), card


def test_a_proxy_that_buffers_answers_is_told(run: Run) -> None:
    card = run.card("buffering")
    assert "works with limits" in card
    assert run.step("buffering", "pieces") == "buffered"
    assert "Something on the way holds answers back until they are complete" in card


def test_a_proxy_that_cuts_waiting_requests_is_told(run: Run) -> None:
    card = run.card("cutting")
    assert "works with limits" in card
    assert re.fullmatch(r"cut after [3-4]\.\d s", run.step("cutting", "hold"))
    assert "Requests of 1 s survive, which tunnels need." in card


def test_a_port_that_refuses_connections_does_not_work(run: Run) -> None:
    card = run.card("refusing")
    assert "does not work" in card
    assert "a firewall or proxy rejects this port" in card


def test_the_summary_and_the_text_for_a_mail_name_all_ports(run: Run) -> None:
    summary = run.browser.evaluate("document.querySelector('#summary').textContent")
    assert summary.startswith("4 of 5 ports work. Best: HTTP")
    text = run.browser.evaluate("document.querySelector('#text').value")
    assert summary in text
    for way in run.ways.values():
        assert f"\n{way}: " in text
    # Browsers let scripts copy only when a user has clicked.
    click = "document.querySelector('#copy').click()"
    run.browser.call("Runtime.evaluate", expression=click, userGesture=True)
    run.browser.until("document.querySelector('#copied').textContent === 'Copied.'")


def test_the_page_requests_nothing_from_other_hosts(run: Run) -> None:
    requested = [urlsplit(each) for each in run.browser.requests]
    assert {each.hostname for each in requested if each.scheme != "data"} == {NAME}
    assert len(requested) > 50
    assert run.browser.evaluate("document.cookie") == ""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (360, 740)], ids=["desktop", "phone"])
def test_the_page_is_readable_on_all_screens(run: Run, size: tuple[int, int], dark: bool) -> None:
    run.browser.resize(*size, dark)
    assert run.browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert run.browser.evaluate(_AUDIT) == []
    run.browser.picture(run.folder / f"{size[0]}-{'dark' if dark else 'light'}.png")


def test_closed_tunnels_leave_nothing_behind(run: Run) -> None:
    counts = dict(re.findall(r'port_test_tunnels_total\{event="(\w+)"\} (\S+)', run.metrics))
    assert counts["opened"] == counts["ended"] == "4.0"
    assert 'rtmpt_gateway_sessions{protocol="rtmpt",state="ordinary"} 0.0' in run.metrics
    assert 'opens_refused_total{cause="upstream_unavailable"} 0.0' in run.metrics


def test_a_page_of_https_says_that_it_cannot_test_http(run: Run) -> None:
    """The last one here: it leaves the page."""
    port = run.ways["secure"].partition(":")[2]
    run.browser.open(f"https://{NAME}:{port}/port-test")
    run.browser.until(f"location.port === '{port}' && document.querySelector('.way') !== null")
    run.browser.picture(run.folder / "https.png")
    card = run.card("plain")
    assert "not tested" in card
    assert "A page that was loaded by HTTPS may not use HTTP." in card
    port = run.ways["plain"].partition(":")[2]
    link = "document.querySelector('.way a').href"
    assert run.browser.evaluate(link) == f"http://{NAME}:{port}/port-test"
