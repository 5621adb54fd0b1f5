"""Importing spoold and submitting a message loads no event loop, and nothing that only the daemon needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import spoold
from spoold import errors
from spoold.store.database import QueuePath, create

HEAVY = {"asyncio", "aiosqlite", "uvloop", "structlog", "pydantic", "pydantic_settings", "aiosmtplib"}
MESSAGE = "b'From: app@example.com\\nTo: ann@example.com\\n\\nhello\\n'"


def loaded(program: str) -> set[str]:
    """The top-level modules that a program has loaded when it ends."""
    report = "import sys; print('\\n'.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_spoold_loads_nothing_heavy_and_not_even_sqlite() -> None:
    assert not loaded("import spoold") & (HEAVY | {"sqlite3", "email"})


def test_submitting_and_withdrawing_load_nothing_heavy(tmp_path: Path) -> None:
    create(QueuePath.of(tmp_path / "queue.db"))
    program = (
        f"import spoold\nwith spoold.Spool({str(tmp_path / 'queue.db')!r}) as spool:\n"
        f"    entry_id = spool.submit({MESSAGE}, send_at='+1h')\n"
        "    spool.get(entry_id), spool.list(), spool.status(), spool.abort(entry_id), spool.wait(entry_id)"
    )
    assert not loaded(program) & HEAVY


def test_the_command_submit_loads_nothing_heavy(tmp_path: Path) -> None:
    create(QueuePath.of(tmp_path / "queue.db"))
    (tmp_path / "m.eml").write_bytes(b"From: app@example.com\nTo: ann@example.com\n\nhello\n")
    arguments = ["--queue", str(tmp_path / "queue.db"), "submit", str(tmp_path / "m.eml")]
    assert not loaded(f"from spoold.cli.main import main\nassert main({arguments!r}) == 0") & HEAVY


def test_every_public_name_is_there_and_every_error_is_public() -> None:
    for name in spoold.__all__:
        assert getattr(spoold, name).__name__ == name
    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert tree <= set(spoold.__all__)
    assert set(spoold.__all__) <= set(dir(spoold))
    with pytest.raises(AttributeError, match="Spoon"):
        spoold.Spoon  # noqa: B018
