"""The complete configurations in deploy/examples are valid, and the README names the folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

from gateway.configuration import loading
from gateway.service import Options

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "deploy/examples").glob("*.toml"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the configurations name."""
    folder = tmp_path_factory.mktemp("files")
    authority = trustme.CA()
    for name in ("site.pem", "a.pem", "b.pem"):
        issued = authority.issue_cert(f"{name.removesuffix('.pem')}.example.org")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / name)
        authority.cert_pem.write_to_path(folder / name, append=True)
    for name in ("video-platform.key", "social-network.key", "stream-keys"):
        (folder / name).write_text("0123456789abcdef")
    for path in folder.iterdir():
        path.chmod(0o600)
    return folder


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_is_valid(example: Path, files: Path, tmp_path: Path) -> None:
    text = re.sub(
        r'"/etc/rtmpt-gateway/[^"]*?([a-z-]+(\.[a-z]+)?)"', rf'"{files}/\1"', example.read_text()
    )
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--config", str(path), "--check"])
    assert ended.value.code == 0


def test_there_is_an_example_for_each_common_case() -> None:
    assert [path.stem for path in EXAMPLES] == [
        *("beside-a-web-server", "one-media-server", "restream", "signed-stream-keys"),
        *("three-servers-hash", "two-virtual-hosts"),
    ]


def test_the_examples_listen_for_the_public() -> None:
    for path in EXAMPLES:
        listeners = loading.from_file(path).listeners
        assert {str(each.address) for each in listeners} <= {"0.0.0.0:80", "0.0.0.0:443"}


def test_the_readme_names_the_examples() -> None:
    assert "(deploy/examples)" in (ROOT / "README.md").read_text()
