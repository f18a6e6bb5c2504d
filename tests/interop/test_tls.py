"""TLS with real clients: certificates by name, renewal, Mozilla's profile."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

import pytest
from OpenSSL import SSL

from tests.helpers.certificate_makers import DAY, issue
from tests.helpers.interop.programs import Programs, needs
from tests.helpers.interop.secure import (
    PLAIN,
    SECURE,
    Authority,
    Gateway,
    make_authority,
    start,
    start_configured,
)
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.streams import Talk, connected
from tests.helpers.rtmp_client import KEYFRAME, VIDEO_HEADER, video
from tests.interop.conftest import Upstream

NAME = "a.example"
_SCAN_S = 120.0
# The beginning of a client's first record.
_HELLO = bytes.fromhex("16030100c8010000c40303")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def gateway(programs: Programs, origin: Upstream, authority: Authority) -> Gateway:
    return start_with_two(programs, origin, authority)


@pytest.fixture(scope="module")
def lasting_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def lasting_gateway(
    lasting_programs: Programs, tapped_origin: Upstream, lasting_authority: Authority
) -> Iterator[Gateway]:
    """As ``gateway``, for the tests that change no certificate."""
    gateway = start_with_two(lasting_programs, tapped_origin, lasting_authority)
    yield gateway
    gateway.program.stop()


def start_with_two(programs: Programs, origin: Upstream, authority: Authority) -> Gateway:
    files = [
        authority.certify("a.pem", NAME),
        authority.certify("b.pem", "b.example", "*.c.example"),
    ]
    return start(programs, files, origin.server)


def serial(gateway: Gateway, authority: Authority, name: str) -> str:
    """The serial number of the certificate for a client that requests and verifies ``name``."""
    with socket.create_connection((LOOPBACK, gateway.ports[SECURE]), 10) as connection:
        context = authority.client_context()
        with context.wrap_socket(connection, server_hostname=name) as secure:
            certificate = secure.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


def test_a_client_gets_the_certificate_of_the_requested_server_name(
    lasting_gateway, lasting_authority
) -> None:
    gateway, authority = lasting_gateway, lasting_authority
    serials = {
        name: serial(gateway, authority, name) for name in (NAME, "b.example", "x.c.example")
    }
    assert serials[NAME] != serials["b.example"] == serials["x.c.example"]
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'other"):
        serial(gateway, authority, "other.example")


def test_renewed_certificates_are_used_and_existing_sessions_continue(
    gateway, authority, stream
) -> None:
    before = serial(gateway, authority, NAME)
    context = authority.client_context()
    with (
        connected("rtmps", gateway.ports[SECURE], context, NAME) as up,
        connected("rtmpts", gateway.ports[SECURE], context, NAME) as down,
    ):
        publisher, player = Talk(up), Talk(down)
        publisher.start("publish", stream)
        publisher.send(video(VIDEO_HEADER))
        player.start("play", stream)
        authority.certify("a.pem", NAME)
        gateway.hang_up("reloaded")
        assert serial(gateway, authority, NAME) != before
        sent = [KEYFRAME + bytes([number]) for number in range(10)]
        for number, payload in enumerate(sent):
            publisher.send(video(payload, 40 * number))
        got: list[bytes] = []
        while len(got) < len(sent):
            got += [each.payload for each in player.media() if each.payload.startswith(KEYFRAME)]
    assert got == sent


# A minute in the gateway.
_SOON = "from gateway.supervisor import supervisor; supervisor.RENEWAL_S = 0.2\n"


def write_apart(authority: Authority, chain: Path, key: Path) -> None:
    """Write a new certificate as an ACME client does: one file, then the other."""
    now = datetime.now(UTC)
    issued = authority.ca.issue_cert(NAME, not_before=now - DAY, not_after=now + 60 * DAY)
    certificates = b"".join(each.bytes() for each in issued.cert_chain_pems)
    for path, content in (
        (chain, certificates + authority.ca.cert_pem.bytes()),
        (key, issued.private_key_pem.bytes()),
    ):
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.rename(path)


def test_replaced_files_are_used_without_a_signal_and_open_connections_continue(
    programs: Programs, origin: Upstream, authority: Authority, stream: str
) -> None:
    chain, key = authority.folder / "fullchain.pem", authority.folder / "privkey.pem"
    write_apart(authority, chain, key)
    text = (
        f'[[listener]]\naddress = "{LOOPBACK}:0"\n[[listener]]\naddress = "{LOOPBACK}:0"\ntls = true\n'
        f'[[tls.certificate]]\nchain = "{chain}"\nkey = "{key}"\n'
        f'[[upstream]]\nservers = ["{origin.server}"]\n'
    )
    gateway = start_configured(programs, text, 2, _SOON)
    before = serial(gateway, authority, NAME)
    context = authority.client_context()
    with (
        connected("rtmps", gateway.ports[SECURE], context, NAME) as up,
        connected("rtmpts", gateway.ports[SECURE], context, NAME) as down,
    ):
        publisher, player = Talk(up), Talk(down)
        publisher.start("publish", stream)
        publisher.send(video(VIDEO_HEADER))
        player.start("play", stream)
        old_key = key.read_bytes()
        write_apart(authority, chain, key)
        new_key = key.read_bytes()
        key.write_bytes(old_key)
        gateway.program.says("renewed certificates cannot be used: ")
        sleep(1)
        assert gateway.program.log.count("renewed certificates cannot be used") == 1
        assert serial(gateway, authority, NAME) == before
        key.write_bytes(new_key)
        gateway.program.says("certificates renewed: ")
        renewed = serial(gateway, authority, NAME)
        assert renewed != before
        assert serial_by_openssl(gateway) == renewed
        publisher.send(video(KEYFRAME))
        while KEYFRAME not in [each.payload for each in player.media()]:
            pass


def serial_by_openssl(gateway: Gateway) -> str:
    """The serial number of the certificate that ``openssl s_client`` gets."""
    openssl, port = needs("openssl"), gateway.ports[SECURE]
    command = f"{openssl} s_client -connect {LOOPBACK}:{port} -servername {NAME} </dev/null"
    done = subprocess.run(
        ["sh", "-c", f"{command} | {openssl} x509 -noout -serial"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip().partition("=")[2]


def hello_with_no_name(authority: Authority) -> bytes:
    """A ClientHello whose server name is 60 bytes FF."""
    name = b"x" * 60
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client_context().wrap_bio(down, up, server_hostname=name.decode())
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return up.read().replace(name, b"\xff" * 60)


def test_an_invalid_server_name_gets_a_certificate_and_no_log_line(
    lasting_gateway, lasting_authority
) -> None:
    gateway, authority = lasting_gateway, lasting_authority
    said = hello_with_no_name(authority)
    before = len(gateway.program.log)
    for _ in range(20):
        with socket.create_connection((LOOPBACK, gateway.ports[SECURE]), 10) as connection:
            connection.sendall(said)
            # A ServerHello, and not an alert.
            assert connection.recv(1) == b"\x16"
    assert serial(gateway, authority, NAME)
    assert gateway.program.log[before:] == ""


def test_invalid_server_names_in_several_segments_cause_one_warning(
    lasting_gateway, lasting_authority
) -> None:
    gateway, authority = lasting_gateway, lasting_authority
    said = hello_with_no_name(authority)
    before = len(gateway.program.log)
    for _ in range(20):
        with socket.create_connection((LOOPBACK, gateway.ports[SECURE]), 10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(said[:60])
            sleep(0.02)
            connection.sendall(said[60:])
            # An alert.
            assert connection.recv(1) == b"\x15"
    assert serial(gateway, authority, NAME)
    (line,) = gateway.program.log[before:].splitlines()
    assert "warn" in line
    assert "a callback failed: UnicodeDecodeError(" in line


def hang(connection: socket.socket) -> None:
    """Begin a handshake and send no more data."""
    connection.sendall(_HELLO[:20])


def say_nonsense(connection: socket.socket) -> None:
    connection.sendall(_HELLO + bytes(500))


def say_nonsense_inside(connection: socket.socket) -> None:
    """Send an invalid TLS record after the handshake, past the client's TLS engine."""
    with ssl._create_unverified_context().wrap_socket(connection, server_hostname=NAME) as secure:
        socket.socket.sendall(secure, b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            secure.recv(100)


def renegotiate(connection: socket.socket) -> None:
    context = SSL.Context(SSL.TLSv1_2_METHOD)
    client = SSL.Connection(context, connection)
    client.set_connect_state()
    connection.settimeout(None)
    client.do_handshake()
    client.renegotiate()
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.do_handshake()


@pytest.mark.parametrize("misbehave", [hang, say_nonsense, say_nonsense_inside, renegotiate])
def test_a_faulty_tls_client_affects_no_other(
    lasting_gateway, lasting_authority, stream, misbehave
) -> None:
    gateway, authority = lasting_gateway, lasting_authority
    context = authority.client_context()
    with (
        connected("rtmps", gateway.ports[SECURE], context, NAME) as up,
        connected("rtmpts", gateway.ports[SECURE], context, NAME) as down,
        ExitStack() as others,
    ):
        publisher, player = Talk(up), Talk(down)
        publisher.start("publish", stream)
        publisher.send(video(VIDEO_HEADER))
        player.start("play", stream)
        for number in range(50):
            address = LOOPBACK, gateway.ports[SECURE]
            misbehave(others.enter_context(socket.create_connection(address, 10)))
            payload = KEYFRAME + bytes([number])
            publisher.send(video(payload, 40 * number))
            while payload not in [each.payload for each in player.media()]:
                pass
    assert "Traceback" not in gateway.program.log


@pytest.mark.parametrize("damage", ["truncated", "missing", "incomplete"])
def test_invalid_certificates_are_not_loaded(gateway, authority, damage: str) -> None:
    before = serial(gateway, authority, NAME)
    path = authority.folder / "a.pem"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    else:
        path.write_bytes(authority.alone(NAME))
    rest = gateway.hang_up("the old configuration stays in use: ")
    assert "a.pem: " in rest
    assert gateway.program.log.count("the old configuration stays in use") == 1
    assert "Traceback" not in gateway.program.log
    assert serial(gateway, authority, NAME) == before
    authority.certify("a.pem", NAME)
    gateway.hang_up("reloaded")
    assert serial(gateway, authority, NAME) != before


def test_a_reload_without_certificates_has_no_effect(programs: Programs, origin: Upstream) -> None:
    text = f'[[listener]]\naddress = "{LOOPBACK}:0"\n[[upstream]]\nservers = ["{origin.server}"]\n'
    gateway = start_configured(programs, text, 1)
    gateway.hang_up("reloaded")
    with socket.create_connection((LOOPBACK, gateway.ports[PLAIN]), 10):
        assert gateway.program.running


def test_sslyze_reports_compliance_with_mozillas_intermediate_profile(
    programs: Programs, origin: Upstream, tmp_path: Path
) -> None:
    # Not trustme's, whose subjectAltName is critical beside a subject, as sslyze's reading of RFC 5280
    # does not have it.
    now = datetime.now(UTC)
    root = issue("Root", authority=True, start=now - DAY, end=now + 3000 * DAY)
    site = issue(NAME, root, names=[NAME], start=now - DAY, end=now + 60 * DAY)
    trusted, served = tmp_path / "root.pem", tmp_path / "site.pem"
    trusted.write_bytes(root.pem)
    served.write_bytes(site.key_pem + site.pem + root.pem)
    gateway = start(programs, [served], origin.server)
    target = f"{NAME}:{gateway.ports[SECURE]}{{{LOOPBACK}}}"
    profile = ("--mozilla_config=intermediate", f"--certinfo_ca_file={trusted}")
    done = subprocess.run(
        [needs("sslyze"), *profile, target],
        capture_output=True,
        text=True,
        timeout=_SCAN_S,
        check=False,
    )
    assert "OK - Compliant" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
    assert done.returncode == 0
