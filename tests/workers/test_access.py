"""Access control of a worker: what is asked first, and reloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.configuration import loading
from gateway.errors import ConfigurationError
from gateway.protocols.access import AccessRequest, Action, Visitor
from gateway.workers.access import Access

VISITOR = Visitor("n1", "192.0.2.1")
PUBLISH = AccessRequest(Action.PUBLISH, "live", "cam")
SECRET = "0123456789abcdef"


def access(text: str) -> Access:
    configuration = loading.from_text("x.toml", f'[[listener]]\naddress = "127.0.0.1:0"\n{text}')
    return Access(configuration, None, lambda call: None)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    file = tmp_path / "secrets"
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


def test_sessions_have_no_access_control_unless_it_is_configured() -> None:
    session: Any = None
    assert access("").control(session, VISITOR) is None
    assert access('[[access]]\nallow = "play"').control(session, VISITOR) is not None


def test_rules_without_names_apply_to_clients_of_which_only_the_address_is_known() -> None:
    rules = access('[[access]]\ndeny = "connect"\nclients = ["192.0.2.0/24"]')
    assert not rules.permits_address("192.0.2.1")
    assert rules.permits_address("198.51.100.1")
    assert access("").permits_address("192.0.2.1")
    assert access('[[access]]\ndeny = "all"\napplication = "live"').permits_address("192.0.2.1")


def test_rules_are_asked_before_keys_and_keys_before_callbacks(secrets: Path) -> None:
    """A callback would be called: there is no reactor for it here."""
    keys = f'[stream_keys]\nsecrets_file = "{secrets}"\n'
    callback = '[callback]\non_publish = "http://127.0.0.1/"\n'
    for text, refusal in (
        ('[[access]]\ndeny = "publish"\n' + keys + callback, "not allowed to publish"),
        (keys + callback, "a signed key is required"),
    ):
        verdict: Any = access(text).judge(PUBLISH, VISITOR)
        assert verdict.refusal == refusal


def test_new_secrets_are_used_after_a_reload(secrets: Path) -> None:
    made = access(f'[stream_keys]\nsecrets_file = "{secrets}"')
    secrets.write_text("short")
    with pytest.raises(ConfigurationError, match=r"stream_keys.*secrets_file.*at least 16"):
        made.reload()
    secrets.write_text(SECRET * 2)
    made.reload()
