"""The status page in headless Chromium with real sessions: contents, screen sizes, safety.

If ``RTMPT_PICTURES`` names a folder, screenshots are stored there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.helpers.interop.browser import Browser
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway

HOSTILE = "<svg/onload=alert(1)>"
# Of the plots' words: their size in pixels, and those that reach out of their plot.
_LEAST_LETTERS = (
    "Math.min(...[...document.querySelectorAll('figure text')].map((each) => "
    "parseFloat(getComputedStyle(each).fontSize) * each.getScreenCTM().a))"
)
_CUT_OFF = (
    "[...document.querySelectorAll('figure text')].filter((each) => {"
    "const word = each.getBoundingClientRect(), all = each.ownerSVGElement.getBoundingClientRect();"
    "return word.left < all.left - 1 || word.right > all.right + 1 || word.bottom > all.bottom + 1;"
    "}).map((each) => each.textContent)"
)
_ROWS = "document.querySelectorAll('#sessions tr')"


@pytest.fixture
def gateway(programs: Programs) -> WatchedGateway:
    return start_with_publisher(programs)


@pytest.fixture(scope="module")
def lasting_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedGateway]:
    """As ``gateway``, for the tests that end neither it nor its session."""
    programs = Programs(tmp_path_factory.mktemp("shared"))
    yield start_with_publisher(programs)
    programs.stop()


def start_with_publisher(programs: Programs) -> WatchedGateway:
    """A gateway with a publisher whose stream name contains markup."""
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


def test_the_page_shows_a_session_and_treats_its_name_as_text(
    lasting_gateway: WatchedGateway, browser: Browser
) -> None:
    gateway = lasting_gateway
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
    assert browser.evaluate("document.querySelector('#mirrors-section').hidden")
    picture(browser, "list")
    assert browser.complaints == []


def test_the_page_shows_uptime_bit_rate_and_ended_sessions(
    gateway: WatchedGateway, browser: Browser
) -> None:
    browser.resize(1280, 900)
    show(browser, gateway)
    browser.until(f"{_ROWS}.length === 1 && {_ROWS}[0].textContent.includes('publish')")
    # A browser whose clock is a day slow.
    browser.evaluate("{ const now = Date.now; Date.now = () => now() - 86400e3; }")
    browser.until("document.querySelectorAll('#rates polyline').length === 2")
    browser.until("[...rates].some((each) => each.up > 0)")
    assert browser.evaluate("document.querySelector('#rates').textContent.includes('bit/s')")
    uptime = browser.evaluate(
        "[...document.querySelectorAll('#totals div')]"
        ".find((each) => each.textContent.startsWith('Uptime')).querySelector('dd').textContent"
    )
    seconds, unit = uptime.split()
    assert unit == "s"
    assert 0 < int(seconds) < 120
    assert browser.evaluate("document.querySelector('#filters').open")
    (session,) = gateway.sessions()
    gateway.change("DELETE", f"/sessions/{session['alias']}")
    browser.until("document.querySelectorAll('#ended tr').length === 1")
    assert "the operator ended it" in browser.evaluate(
        "document.querySelector('#ended tr').textContent"
    )
    assert browser.complaints == []


def test_formatted_times_have_the_order_of_the_times(
    lasting_gateway: WatchedGateway, browser: Browser
) -> None:
    gateway = lasting_gateway
    show(browser, gateway)
    browser.until(f"{_ROWS}.length === 1")
    shown = browser.evaluate(
        "[0, 4e-5, 9e-5, 0.00994, 0.00996, 0.0101, 0.9394, 0.9994, 0.9996, 1, 1.04, 1.06].map(spoken)"
    )
    assert " | ".join(shown) == (
        "0 ms | 0 ms | 0.1 ms | 9.9 ms | 10 ms | 10 ms | 939 ms | 999 ms | 1.0 s | 1.0 s | 1.0 s | 1.1 s"
    )
    rates = browser.evaluate("[0, 65e3, 124.9e3, 124.95e3, 1.24e6, 1.25e6].map(rate)")
    assert rates == [
        "0 kbit/s",
        "520 kbit/s",
        "999 kbit/s",
        "1.0 Mbit/s",
        "9.9 Mbit/s",
        "10 Mbit/s",
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_the_screen_of_a_phone(
    lasting_gateway: WatchedGateway, browser: Browser, dark: bool
) -> None:
    gateway = lasting_gateway
    browser.resize(360, 740, dark)
    show(browser, gateway)
    browser.until(f"{_ROWS}.length === 1 && {_ROWS}[0].textContent.includes('publish')")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    top = "document.querySelector('{}').getBoundingClientRect().top"
    # The first session is in the upper third, before all else and without the filters over it.
    assert browser.evaluate(top.format("#sessions tr")) < 247
    assert browser.evaluate(top.format("#totals")) > browser.evaluate(top.format("#sessions"))
    assert not browser.evaluate("document.querySelector('#filters').open")
    picture(browser, f"phone-{'dark' if dark else 'light'}")
    browser.evaluate(f"{_ROWS}[0].querySelector('a').click()")
    browser.until("document.querySelectorAll('#plots svg').length > 0")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    assert browser.evaluate(_LEAST_LETTERS) >= 11
    assert browser.evaluate(_CUT_OFF) == []
    picture(browser, f"phone-session-{'dark' if dark else 'light'}")
    assert browser.complaints == []


def test_a_sessions_page_shows_the_cause_of_delay_and_can_end_it(
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


def test_the_chart_of_the_last_ten_minutes_has_a_legend_and_complete_labels(
    lasting_gateway: WatchedGateway, browser: Browser
) -> None:
    gateway = lasting_gateway
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
    assert browser.evaluate(_CUT_OFF) == []
    assert browser.evaluate("document.querySelector('#history').textContent.includes('200')")


def test_the_page_names_the_media_server_that_is_down(
    programs: Programs, browser: Browser, refusing_port: int
) -> None:
    gateway = start_watched_gateway(
        programs,
        f'[[upstream]]\nservers = ["{LOOPBACK}:{refusing_port}"]\n'
        '[[upstream]]\nname = "platform"\nservers = ["127.0.0.9:1"]\n'
        '[[mirror]]\nupstream = "platform"\n',
    )
    browser.resize(1280, 900)
    show(browser, gateway)
    browser.until("document.querySelector('#none')?.textContent === 'There are no sessions now.'")
    assert browser.evaluate("document.querySelector('#upstreams .up').textContent") == "up"
    assert not browser.evaluate("document.querySelector('#mirrors-section').hidden")
    assert "platform" in browser.evaluate("document.querySelector('#mirrors').textContent")
    with pytest.raises(HTTPError):
        urlopen(f"http://{LOOPBACK}:{gateway.port}/open/1", b"\0")
    browser.until("document.querySelector('#upstreams .down')?.textContent === 'down; tried last'")
    assert browser.evaluate("document.querySelector('#state').textContent") == "no upstream is up"
    refused = "document.querySelector('#refusals').textContent"
    assert browser.evaluate(refused) == "refusedno media server accepted it: 1"
    gateway.change("POST", f"/upstreams/{LOOPBACK}:{refusing_port}/down")
    state = "document.querySelector('#upstreams .down')?.textContent"
    browser.until(f"{state} === 'down, as the operator asked'")
    gateway.change("POST", f"/upstreams/{LOOPBACK}:{refusing_port}/drain")
    gateway.change("POST", f"/upstreams/{LOOPBACK}:{refusing_port}/up")
    browser.until(f"{state}?.startsWith('down; ')")


def test_the_page_can_start_and_end_a_drain(
    lasting_gateway: WatchedGateway, browser: Browser
) -> None:
    gateway = lasting_gateway
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


def test_the_page_shows_that_the_gateway_does_not_answer(
    gateway: WatchedGateway, browser: Browser
) -> None:
    browser.resize(1280, 900)
    show(browser, gateway)
    browser.until("document.querySelector('#state')?.textContent === 'ready'")
    gateway.program.stop()
    browser.until("document.querySelector('#state')?.textContent.includes('does not answer')")
    assert browser.evaluate("document.body.classList.contains('stale')")
