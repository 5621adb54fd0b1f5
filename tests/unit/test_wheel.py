"""The wheel brings the packages of the three source roots to site-packages, and nothing else."""

import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [
    ROOT / "spoold",
    *(init.parent for root in ("transports", "migrations") for init in (ROOT / root).glob("*/__init__.py")),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (path,) = folder.iterdir()
    with ZipFile(path) as archive:
        yield archive


def test_its_top_level_names_are_the_packages_and_its_own_metadata(wheel: ZipFile) -> None:
    names = {name.split("/")[0] for name in wheel.namelist()}
    assert names == {*(package.name for package in PACKAGES), "spoold-0.1.0.dist-info"}
    assert {"spoold", "spoold_smtp", "spoold_migrations"} <= names


def test_it_holds_every_module_and_every_sql_file(wheel: ZipFile) -> None:
    files = {
        str(path.relative_to(package.parent))
        for package in PACKAGES
        for pattern in ("*.py", "*.sql", "py.typed")
        for path in package.rglob(pattern)
    }
    assert any(name.startswith("spoold_migrations/sqlite/") for name in files)
    assert files == {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_its_entry_points_are_the_command_and_the_transports(wheel: ZipFile) -> None:
    entry_points = ConfigParser(delimiters="=")
    entry_points.read_string(wheel.read("spoold-0.1.0.dist-info/entry_points.txt").decode())
    assert {section: dict(entry_points[section]) for section in entry_points.sections()} == {
        "console_scripts": {"spoold": "spoold.cli.main:main"},
        "spoold.transports": {"smtp": "spoold_smtp:SmtpTransport"},
    }
