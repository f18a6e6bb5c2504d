"""Renewals of certificates as the supervisor notices them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from gateway.configuration import loading
from gateway.supervisor.certificate_renewal import CertificateRenewal
from tests.helpers.certificate_makers import DAY, issue


def test_a_renewal_between_the_start_of_the_workers_and_of_the_watch_is_not_missed(
    tmp_path: Path,
) -> None:
    now = datetime.now(UTC)
    site = issue("site", names=["site.example"], start=now - DAY, end=now + DAY)
    pem = tmp_path / "site.pem"
    pem.write_bytes(site.pem + site.key_pem)
    configuration = loading.from_text(
        "gateway.toml",
        f'''
            [[listener]]
            address = "127.0.0.1:0"
            tls = true
            [tls]
            certificates = ["{pem}"]
            [[upstream]]
            servers = ["media"]
        ''',
    )
    told: list[str] = []
    CertificateRenewal(lambda: told.append("renew")).watch(configuration)
    # The workers look whether the files have changed since they have read them.
    assert told == ["renew"]
