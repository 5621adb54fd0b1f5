"""Which queue a command works on, creating it, holding and releasing what is in it; usage, help and exit codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from command import Command

from spoold import Message, Spool
from spoold.cli.main import COMMANDS
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nCc: bob@example.org\nSubject: hello\n\nhello\n"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create(QueuePath.of(tmp_path / "queue.db"))
    return tmp_path / "queue.db"


@pytest.fixture
def spoold(tmp_path: Path, queue: Path) -> Command:
    return Command(tmp_path, queue)


@pytest.fixture
def spool(queue: Path) -> Iterator[Spool]:
    with Spool(queue) as spool:
        yield spool


# -- which queue -------------------------------------------------------------------------------------------------------


def used(spoold: Command, *arguments: str, environment: Mapping[str, str | None] = {}) -> str:
    """The name of the file that a command worked on."""
    done = spoold(*arguments, "status", environment={"SPOOLD_QUEUE__URL": None, **environment})
    assert done.code == 0, done.err
    return Path(done.out.splitlines()[0].removeprefix("queue:").strip()).name


def test_the_option_wins_over_the_environment_and_that_over_the_configuration(spoold: Command, tmp_path: Path) -> None:
    for name in "abcdef":
        create(QueuePath.of(tmp_path / f"{name}.db"))
    (tmp_path / "spoold.toml").write_text("[queue]\nurl = 'sqlite:///a.db'\n")
    (tmp_path / "b.toml").write_text(f"[queue]\nurl = 'sqlite:///{tmp_path}/b.db'\n[transports.x]\nwhatever = 1\n")
    (tmp_path / "c.toml").write_text("[queue]\nurl = 'c.db'\n")
    assert used(spoold) == "a.db"
    assert used(spoold, environment={"SPOOLD_CONFIG": "b.toml"}) == "b.db"
    assert used(spoold, "--config", "c.toml", environment={"SPOOLD_CONFIG": "b.toml"}) == "c.db"
    environment = {"SPOOLD_QUEUE__URL": "d.db"}
    assert used(spoold, "--config", "c.toml", environment=environment) == "d.db"
    assert used(spoold, "--queue", "sqlite:///e.db", environment=environment) == "e.db"
    assert used(spoold, "--queue=f.db", environment=environment) == "f.db"
    done = spoold("status", "--queue", "f.db")  # behind the command too
    assert "f.db" in done.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[queue", "not valid TOML"),
        ("[queue]\nurl = 7", "queue.url = 7: give text"),
        ("queue = 7", "queue.url = 7: give text"),
        ("[queue]\ndurability = 'careless'", "queue.durability = 'careless': give one of full, normal"),
    ],
)
def test_a_configuration_that_makes_no_sense_gives_78(spoold: Command, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "spoold.toml").write_text(text)
    done = spoold("list", environment={"SPOOLD_QUEUE__URL": None})
    assert done.code == 78
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_configuration_that_is_not_there_gives_78(spoold: Command) -> None:
    for arguments, environment in ((("--config", "no.toml"), {}), ((), {"SPOOLD_CONFIG": "no.toml"})):
        done = spoold(*arguments, "list", environment=environment)
        assert (done.code, done.out) == (78, "")
        assert "no.toml: no such file" in done.err


@pytest.mark.parametrize(
    ("url", "code"),
    [("no.db", 69), ("no/folder/queue.db", 69), ("sqlite:///no.db", 69), ("mysql://x/y", 64), (".", 69), ("m.eml", 69)],
)
def test_a_queue_that_is_none_gives_one_line_and_is_not_created(
    spoold: Command, tmp_path: Path, url: str, code: int
) -> None:
    (tmp_path / "m.eml").write_bytes(PLAIN * 100)
    before = sorted(tmp_path.rglob("*"))
    for command in (["submit", "m.eml"], ["list"], ["status", "--ready"], ["abort", "0" * 32], ["flush"]):
        done = spoold("--queue", url, *command)
        assert (done.code, done.out) == (code, "")
        assert done.err.startswith("spoold: ")
        assert done.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


# -- migrate -----------------------------------------------------------------------------------------------------------


def test_migrate_creates_the_queue_once(spoold: Command, tmp_path: Path) -> None:
    path = tmp_path / "new" / "queue.db"
    assert spoold("--queue", str(path), "migrate").out == f"{path} was created with schema 1\n"
    assert spoold("--queue", str(path), "migrate").out == f"{path} is up to date: schema 1\n"
    assert spoold("--queue", str(path), "submit", stdin=PLAIN).code == 0


def test_what_cannot_be_created_gives_73(spoold: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for url in ("file/queue.db", "/proc/queue.db"):
        done = spoold("--queue", url, "migrate")
        assert (done.code, done.out) == (73, "")
        assert done.err.count("\n") == 1


# -- hold, release, flush ----------------------------------------------------------------------------------------------


def test_hold_and_release_tell_how_many_recipients(spoold: Command, spool: Spool) -> None:
    entry_id, _ = spool.submit_many([PLAIN, Message(PLAIN, recipients="cy@example.com")])
    assert spoold("hold", entry_id).out == "held 2 recipients\n"
    assert spool.get(entry_id).state == "held"
    assert spoold("hold", "--all").out == "held 1 recipient\n"
    assert spoold("release", "--destination", "example.com").out == "released 2 recipients\n"
    assert spoold("release", "--transport", "relay").out == "released 0 recipients\n"
    assert spoold("release", "--all").out == "released 1 recipient\n"
    assert {m.state for m in spool.list()} == {"queued"}


def test_flush_tells_how_many_recipients_are_due(spoold: Command, spool: Spool) -> None:
    entry_id = spool.submit(PLAIN, send_at="+1h")
    spool.submit(PLAIN)
    assert spoold("flush").out == "made 2 recipients due now\n"
    assert spoold("flush", entry_id).out == "made 2 recipients due now\n"
    assert spoold("flush", "--destination", "example.net").out == "made 0 recipients due now\n"


@pytest.mark.parametrize("command", ["hold", "release"])
def test_hold_and_release_need_to_be_told_what(spoold: Command, command: str) -> None:
    done = spoold(command)
    assert (done.code, done.out) == (64, "")
    assert "give entry ids" in done.err
    assert spoold(command, "0" * 32).code == 66


# -- usage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(spoold: Command, command: str) -> None:
    done = spoold(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert "example: spoold" in done.out
    assert command in done.out[done.out.index("example:") :]


def test_the_help_lists_every_command(spoold: Command) -> None:
    done = spoold("--help")
    assert done.code == 0
    for command, (_, summary) in COMMANDS.items():
        assert command in done.out
        assert summary in " ".join(done.out.split())


@pytest.mark.parametrize(
    "arguments", [[], ["frobnicate"], ["--frobnicate"], ["--queue"], ["list", "--queue"], ["--queue", "q.db"]]
)
def test_wrong_usage_gives_64_and_one_line(spoold: Command, arguments: list[str]) -> None:
    done = spoold(*arguments)
    assert (done.code, done.out) == (64, "")
    assert done.err.startswith("spoold: ")
    assert done.err.count("\n") == 1


def test_the_version_is_told(spoold: Command) -> None:
    done = spoold("--version")
    assert done.code == 0
    assert done.out.startswith("spoold ")
