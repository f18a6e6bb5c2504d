"""setup.cfg, the twistd plugin and the scripts match the source tree."""

from __future__ import annotations

import ast
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STANDARD = set(sys.stdlib_module_names)


@pytest.fixture
def setup() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def packages_in(root: Path) -> set[str]:
    """Every directory of the program with Python files."""
    folders = {path.parent for top in ("gateway", "twisted") for path in (root / top).rglob("*.py")}
    return {".".join(folder.relative_to(root).parts) for folder in folders}


def test_setup_cfg_lists_exactly_the_packages_of_the_tree(setup: ConfigParser) -> None:
    assert set(setup["options"]["packages"].split()) == packages_in(ROOT)


def test_a_package_missing_from_setup_cfg_is_reported(tmp_path: Path) -> None:
    for file in ("gateway/__init__.py", "gateway/new/deep/code.py", "twisted/plugins/plugin.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert packages_in(tmp_path) == {"gateway", "gateway.new.deep", "twisted.plugins"}


def test_every_package_has_an_init_file() -> None:
    for package in packages_in(ROOT) - {"twisted.plugins"}:
        assert (ROOT / package.replace(".", "/") / "__init__.py").is_file(), package


def test_the_twisted_directory_has_no_init_file() -> None:
    # An __init__.py here would hide Twisted itself.
    assert not list((ROOT / "twisted").rglob("__init__.py"))


@pytest.mark.parametrize("name", ["rtmpt_gateway", "rtmpt_client"])
def test_a_plugin_imports_only_the_service_maker(name: str) -> None:
    tree = ast.parse((ROOT / f"twisted/plugins/{name}_plugin.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == [
        "from twisted.application.service import ServiceMaker"
    ]


def test_pyproject_leaves_the_metadata_to_setup_cfg() -> None:
    assert "[project]" not in (ROOT / "pyproject.toml").read_text()


def test_every_imported_package_is_a_requirement(setup: ConfigParser) -> None:
    lines = setup["options"]["install_requires"].split()
    required = {line.partition(">=")[0].lower() for line in lines}
    assert imported_packages() <= required


def imported_packages() -> set[str]:
    distributions = {
        **{name: name for name in ("attrs", "cattrs", "httptools", "twisted")},
        "OpenSSL": "pyopenssl",
        "prometheus_client": "prometheus-client",
        "tomli_w": "tomli-w",
        "zope": "twisted",  # Twisted requires zope.interface
    }
    found = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
    return {distributions.get(name, name) for name in found - {"gateway"} - STANDARD}


@pytest.mark.parametrize("script", ["run", "test", ".ci/run", "deploy/debian/build"])
def test_a_script_is_executable_and_valid_for_its_shell(script: str) -> None:
    path = ROOT / script
    shell = path.read_text().partition("\n")[0].split("/")[-1].split()[-1]
    assert path.stat().st_mode & 0o111 == 0o111
    assert shell in {"sh", "bash"}
    subprocess.run([shell, "-n", path], check=True, timeout=10)


def test_the_shared_part_of_the_scripts_is_valid_for_sh() -> None:
    subprocess.run(["sh", "-n", ROOT / ".ci/environment.sh"], check=True, timeout=10)
