"""The configurations in README.md are valid, and its commands name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

from gateway.service import Options

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
CONFIGURATIONS = re.findall(r"^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the certificate files that the configurations name."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("example.org")
    key, root = issued.private_key_pem.bytes(), authority.cert_pem.bytes()
    chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
    for name, content in {
        "site.pem": key + chain + root,
        "fullchain.pem": chain + root,
        "privkey.pem": key,
        "node.pem": key + chain + root,
        "nodes.pem": root,
    }.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return folder


def check(path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--config", str(path), "--check"])
    assert ended.value.code == 0


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_each_configuration_in_the_readme_is_valid(
    text: str, certificate: Path, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(re.sub(r'"/etc/[^"]*/([a-z]+\.pem)"', rf'"{certificate}/\1"', text))
    check(path)


def test_the_recipes_are_there() -> None:
    assert len(CONFIGURATIONS) == 13


def test_the_trial_configuration_is_valid() -> None:
    check(ROOT / "etc" / "try.toml")


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / link).exists(), link
