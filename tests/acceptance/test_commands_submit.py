"""spoold submit: an entry id for a message that is safely stored, or one line that says why not."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from hand import Hand
from users import as_owner, not_root

from spoold import Spool
from spoold.cli.main import main
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nSubject: hello\n\nhello\n"
ANN, BOB = "ann@example.com", "bob@example.org"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create(QueuePath.of(tmp_path / "queue.db"))
    return tmp_path / "queue.db"


@pytest.fixture
def spoold(tmp_path: Path, queue: Path) -> Command:
    (tmp_path / "m.eml").write_bytes(PLAIN)
    return Command(tmp_path, queue)


@pytest.fixture
def spool(queue: Path) -> Iterator[Spool]:
    with Spool(queue) as spool:
        yield spool


@pytest.fixture
def hand(queue: Path) -> Iterator[Hand]:
    hand = Hand(queue)
    yield hand
    hand.close()


@pytest.mark.parametrize("arguments", [["m.eml"], ["-"], []])
def test_the_entry_id_stands_alone_on_one_line_and_the_message_is_stored(
    spoold: Command, spool: Spool, arguments: list[str]
) -> None:
    done = spoold("submit", *arguments, stdin=b"" if "m.eml" in arguments else PLAIN)
    assert (done.code, done.err) == (0, "")
    assert spool.content(done.entry_id) == PLAIN
    assert spool.get(done.entry_id).state == "queued"


def test_every_option_is_stored(spoold: Command, spool: Spool) -> None:
    done = spoold(
        *("submit", "-f", "boss@example.com", "-r", BOB, "--recipient", "cy@example.com", "--priority", "low"),
        *("--key", "order 7", "--hold", "--sent-folder", "Sent", "--delete-after-submit"),
        *("--send-at", "2031-01-01T00:00:00Z", "--expires", "2032-01-01T00:00:00+00:00", "m.eml"),
    )
    record = spool.get(done.entry_id)
    assert (record.sender, record.priority, record.key, record.sent_folder) == (
        "boss@example.com",
        "low",
        "order 7",
        "Sent",
    )
    assert [r.address for r in record.recipients] == [BOB, "cy@example.com"]
    assert (record.state, record.deferred_send_time) == ("held", "2031-01-01T00:00:00.000Z")
    assert record.expires_time == "2032-01-01T00:00:00.000Z"


def test_a_time_may_count_from_now(spoold: Command, spool: Spool) -> None:
    record = spool.get(spoold("submit", "--send-at", "+10m", "m.eml").entry_id)
    assert record.deferred_send_time is not None
    assert record.client_submit_time is not None
    assert record.deferred_send_time > record.client_submit_time


def test_the_null_reverse_path_may_be_given(spoold: Command, spool: Spool) -> None:
    for sender in ("", "<>"):
        assert spool.get(spoold("submit", "-f", sender, "m.eml").entry_id).sender == ""


def test_the_same_key_again_prints_the_first_entry_id(spoold: Command, spool: Spool) -> None:
    first = spoold("submit", "--key", "order 7", "m.eml").entry_id
    assert spoold("submit", "--key", "order 7", "m.eml").entry_id == first
    done = spoold("submit", "--key", "order 7", stdin=PLAIN + b"more\n")
    assert (done.code, done.out) == (65, "")
    assert "order 7" in done.err
    assert len(spool.list(all=True)) == 1


def test_a_message_of_30_mb_goes_in_octet_for_octet(spoold: Command, spool: Spool, tmp_path: Path) -> None:
    content = PLAIN + os.urandom(30_000_000)
    entry_id = spoold("submit", stdin=content).entry_id
    assert spool.content(entry_id) == content
    assert spoold("show", "--content", entry_id).raw == content


@pytest.mark.parametrize(
    ("stdin", "arguments", "expected"),
    [
        (b"", [], (65, "the message is empty")),
        (b"\n\n", [], (65, "the message is empty")),
        (b"hello\n", [], (65, "no sender")),
        (b"From: app@example.com\n\nhello\n", [], (65, "no recipients")),
        (PLAIN, ["-r", "ann"], (65, "recipient 'ann' is not an address like ann@example.com")),
        (PLAIN, ["-r", b"\xff@example.com"], (65, "not valid Unicode")),
        (PLAIN, ["-f", "a b@example.com"], (65, "sender 'a b@example.com'")),
        (PLAIN, ["--send-at", "tomorrow"], (64, "send_at 'tomorrow' is not a time")),
        (PLAIN, ["--send-at", b"\xff"], (64, "is not a time")),
        (PLAIN, ["--expires", "+10"], (0, "")),
        (PLAIN, ["--priority", "urgent"], (64, "urgent")),
        (PLAIN, ["--key", ""], (65, "key")),
        (PLAIN, ["--wait", "-1"], (64, "--wait")),
        (PLAIN, ["--wait=soon", "m.eml"], (64, "--wait 'soon'")),
        (PLAIN, ["--unknown"], (64, "--unknown")),
        (PLAIN, ["a", "b"], (64, "unrecognized arguments: b")),
        (PLAIN, ["no such file"], (66, "no such file: no such file")),
        (PLAIN, [b"\xff"], (66, "no such file")),
        (PLAIN, ["."], (66, ".: is a directory")),
    ],
)
def test_what_cannot_be_submitted_gives_one_line_and_an_exit_code(
    spoold: Command, spool: Spool, stdin: bytes, arguments: list[str | bytes], expected: tuple[int, str]
) -> None:
    code, text = expected
    done = spoold("submit", *arguments, stdin=stdin)
    assert done.code == code
    assert text in done.err
    if code:
        assert done.out == ""
        assert done.err.startswith("spoold: ")
        assert done.err.count("\n") == 1
        assert spool.list(all=True) == []


def test_an_unreadable_file_gives_exit_code_77(capsys: pytest.CaptureFixture[str]) -> None:
    with not_root() as folder:  # in this process: the interpreter's own files may be root's alone
        with as_owner():
            create(QueuePath.of(folder / "queue.db"))
            for file in folder.iterdir():
                file.chmod(0o666)
            (folder / "m.eml").write_bytes(PLAIN)
            (folder / "m.eml").chmod(0)
            folder.chmod(0o777)
        assert main(["--queue", str(folder / "queue.db"), "submit", str(folder / "m.eml")]) == 77
    assert capsys.readouterr().err == f"spoold: {folder / 'm.eml'}: may not be read by this user (Permission denied)\n"


def test_closed_standard_input_and_output_give_no_traceback(spoold: Command, spool: Spool) -> None:
    for redirection in ("<&-", ">&- < m.eml", "2>&- < m.eml"):
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m spoold submit {redirection}"],
            capture_output=True, env=spoold.environment, cwd=spoold.folder, check=False,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        assert done.returncode == (66 if redirection == "<&-" else 0)
    assert len(spool.list()) == 2


def test_a_full_disk_behind_standard_output_is_an_error(spoold: Command) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "spoold", "submit", "m.eml"],
            stdout=full, stderr=subprocess.PIPE, env=spoold.environment, cwd=spoold.folder, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == b"spoold: [Errno 28] No space left on device\n"


def test_a_terminal_is_told_that_a_message_is_expected(spoold: Command) -> None:
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "spoold", "submit"],
        stdin=inner, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=spoold.environment, cwd=spoold.folder,
    )  # fmt: skip
    assert process.stderr is not None
    assert b"Ctrl-D" in process.stderr.readline()
    os.write(outer, PLAIN + b"\x04")
    out, err = process.communicate()
    assert (process.returncode, err, len(out)) == (0, b"", 33)
    os.close(outer)
    os.close(inner)


# -- --wait ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("sent", (0, "")),
        ("failed", (69, f"{ANN}: failed: 550 5.1.1 no such user")),
        ("partial", (5, f"{BOB}: failed: 550 5.1.1 no such user")),
        ("aborted", (3, f"{ANN}: aborted")),
    ],
)
def test_wait_prints_the_entry_id_at_once_and_ends_with_the_message(
    spoold: Command, spool: Spool, hand: Hand, what: str, answer: tuple[int, str]
) -> None:
    process = spoold.start("submit", "-r", ANN, "-r", BOB, "--wait", "m.eml")
    assert process.stdout is not None
    entry_id = process.stdout.readline().decode().strip()
    if what == "aborted":
        spool.abort(entry_id)
    else:
        hand.fail(*{"failed": (ANN, BOB), "partial": (BOB,)}.get(what, ("nobody",)))
        hand.send()
    out, err = process.communicate()
    assert (process.returncode, out) == (answer[0], b"")
    assert answer[1] in err.decode()


def test_wait_gives_up_after_its_seconds_and_the_message_stays(spoold: Command, spool: Spool) -> None:
    done = spoold("submit", "--wait", "0.01", "m.eml")
    assert done.code == 75
    assert "not settled within 0.01 seconds" in done.err
    assert spool.get(done.out.strip()).state == "queued"


def test_an_interrupt_while_waiting_is_no_traceback(spoold: Command, spool: Spool) -> None:
    process = spoold.start("submit", "--wait", "--", "m.eml")
    assert process.stdout is not None
    entry_id = process.stdout.readline().decode().strip()
    process.send_signal(2)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, b"")
    assert spool.get(entry_id).state == "queued"
