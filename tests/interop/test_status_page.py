"""The status page in headless Chromium, with real sessions: what it shows, on which screens, and safely.

With ``RTMPT_PICTURES`` naming a folder, pictures are left there, for people to look at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.interop.browser import Browser
from tests.interop.programs import Programs
from tests.interop.servers import LOOPBACK
from tests.interop.watched import WatchedGateway, start_watched_gateway

HOSTILE = "<svg/onload=alert(1)>"
_ROWS = "document.querySelectorAll('#sessions tr')"


@pytest.fixture
def gateway(programs: Programs) -> WatchedGateway:
    """A gateway to which somebody publishes under a name that would like to be markup."""
    gateway = start_watched_gateway(programs)
    programs.start(
        *(
            "ffmpeg",
            "-loglevel",
            "error",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=160x90:rate=25",
        ),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-f", "flv"),
        f"rtmpt://{LOOPBACK}:{gateway.port}/live/{HOSTILE}",
    )
    return gateway


@pytest.fixture
def browser(programs: Programs) -> Iterator[Browser]:
    with Browser(programs) as browser:
        yield browser


def picture(browser: Browser, name: str) -> None:
    if folder := os.environ.get("RTMPT_PICTURES"):
        browser.picture(Path(folder) / f"{name}.png")


def show(browser: Browser, gateway: WatchedGateway, path: str = "/") -> None:
    browser.open(f"http://{LOOPBACK}:{gateway.admin_port}{path}")


def test_the_page_shows_a_session_and_takes_its_name_for_text(
    gateway: WatchedGateway, browser: Browser
) -> None:
    browser.resize(1280, 900)
    show(browser, gateway)
    browser.until(f"{_ROWS}.length === 1 && {_ROWS}[0].textContent.includes('publish')")
    # FFmpeg takes what is before the last slash for the application.
    text = browser.evaluate(f"{_ROWS}[0].textContent")
    assert "<svg" in text
    assert "onload=alert(1)>" in text
    assert browser.evaluate("document.querySelectorAll('[onload]').length") == 0
    browser.until("document.querySelector('#sessions polyline').points.numberOfItems >= 3")
    assert browser.evaluate("document.querySelector('#state')?.textContent") == "ready"
    picture(browser, "list")
    assert browser.complaints == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone(gateway: WatchedGateway, browser: Browser, dark: bool) -> None:
    browser.resize(360, 740, dark)
    show(browser, gateway)
    browser.until(f"{_ROWS}.length === 1 && {_ROWS}[0].textContent.includes('publish')")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    picture(browser, f"phone-{'dark' if dark else 'light'}")
    browser.evaluate(f"{_ROWS}[0].querySelector('a').click()")
    browser.until("document.querySelectorAll('#plots svg').length > 0")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    picture(browser, f"phone-session-{'dark' if dark else 'light'}")
    assert browser.complaints == []


def test_a_sessions_own_page_says_where_its_delay_comes_from_and_ends_it(
    gateway: WatchedGateway, browser: Browser
) -> None:
    browser.resize(1280, 900)
    show(browser, gateway)
    browser.until(f"{_ROWS}.length === 1 && {_ROWS}[0].textContent.includes('publish')")
    browser.evaluate(f"{_ROWS}[0].querySelector('a').click()")
    browser.until("document.querySelectorAll('#plots svg').length > 0")
    # Which words depends on how busy the machine is; tests/admin has them.
    browser.until("document.querySelector('#verdict').textContent.length > 20")
    assert "onload=alert(1)>" in browser.evaluate("document.querySelector('#alias').textContent")
    picture(browser, "session")
    # The one question that the page asks is answered with yes.
    browser.evaluate("window.confirm = () => true")
    browser.evaluate("document.querySelector('#end').click()")
    ended = "document.querySelector('#verdict').textContent.includes('the operator ended it')"
    browser.until(ended)
    assert gateway.sessions() == []
    # A scrape has its last figures, and the gateway none any more; who looks at it keeps them.
    alias = browser.evaluate("location.hash.slice(1)")
    gateway.get("/metrics/sessions")
    assert f'session="{alias}"' not in gateway.get("/metrics/sessions")
    browser.evaluate("window.events = 0; source.addEventListener('message', () => window.events++)")
    browser.until("window.events >= 2")
    assert browser.evaluate(ended)
    assert browser.evaluate("document.querySelectorAll('#plots svg').length") > 0
    assert browser.complaints == []


def test_the_last_ten_minutes_are_drawn_with_a_key_and_whole_words(
    gateway: WatchedGateway, browser: Browser
) -> None:
    browser.resize(1280, 900)
    show(browser, gateway)
    browser.until(f"{_ROWS}.length === 1")
    browser.evaluate(f"{_ROWS}[0].querySelector('a').click()")
    browser.until("document.querySelector('#verdict').textContent.length > 20")
    # As the gateway says it of a session that is half a minute old, at 123 Mbit/s.
    sample = (
        "{downstream_wait_p95_s: 0.05, poll_gap_p95_s: 0.4, bytes_down_per_s: 15.4e6, "
        "bytes_up_per_s: 1000, round_trip_s: 0.02}"
    )
    browser.evaluate(f"drawHistory({{every_s: 10, age_s: 5, samples: [{sample}, {sample}]}})")
    captions = browser.evaluate(
        "[...document.querySelectorAll('#history figcaption')].map((each) => each.textContent)"
    )
    assert captions == [
        "95th percentile:downstream waitpoll gap",
        "Bit rate:downup",
        "TCP:round trip to the client",
    ]
    left = "Math.min(...[...document.querySelectorAll('#history text')].map((t) => t.getBBox().x))"
    assert browser.evaluate(left) >= 0, "words are cut off"
    assert browser.evaluate("document.querySelector('#history').textContent.includes('200')")


def test_the_page_names_the_media_server_that_is_down(
    programs: Programs, browser: Browser, refusing_port: int
) -> None:
    gateway = start_watched_gateway(
        programs, f'[[upstream]]\nservers = ["{LOOPBACK}:{refusing_port}"]\n'
    )
    browser.resize(1280, 900)
    show(browser, gateway)
    browser.until("document.querySelector('#none')?.textContent === 'There are no sessions now.'")
    assert browser.evaluate("document.querySelector('#upstreams .up').textContent") == "up"
    with pytest.raises(HTTPError):
        urlopen(f"http://{LOOPBACK}:{gateway.port}/open/1", b"\0")
    browser.until("document.querySelector('#upstreams .down')?.textContent === 'down; tried last'")
    assert browser.evaluate("document.querySelector('#state').textContent") == "no upstream is up"
    refused = "document.querySelector('#refusals').textContent"
    assert browser.evaluate(refused) == "refusedno media server took it: 1"


def test_the_page_drains_and_takes_sessions_again(
    gateway: WatchedGateway, browser: Browser
) -> None:
    browser.resize(1280, 900)
    show(browser, gateway)
    browser.until("document.querySelector('#state')?.textContent === 'ready'")
    browser.evaluate("window.confirm = () => true")
    browser.evaluate("document.querySelector('#drain').click()")
    browser.until("document.querySelector('#state')?.textContent.startsWith('draining')")
    assert not gateway.is_ready
    browser.evaluate("document.querySelector('#drain').click()")
    browser.until("document.querySelector('#state')?.textContent === 'ready'")
    assert gateway.is_ready


def test_the_page_says_when_the_gateway_does_not_answer(
    gateway: WatchedGateway, browser: Browser
) -> None:
    browser.resize(1280, 900)
    show(browser, gateway)
    browser.until("document.querySelector('#state')?.textContent === 'ready'")
    gateway.program.stop()
    browser.until("document.querySelector('#state')?.textContent.includes('does not answer')")
    assert browser.evaluate("document.body.classList.contains('stale')")
