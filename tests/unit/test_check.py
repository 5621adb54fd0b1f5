import argparse
import os
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spoold import registry
from spoold.cli import check
from spoold.provider import Status, TransportFault
from spoold.settings import sources


class Answering:
    """A transport that does what its name says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[str] = []

    async def logon(self) -> None:
        self.calls.append("logon")
        if self.name == "faulty":
            raise TransportFault("password_file: no such file")

    async def validate(self) -> Status:
        self.calls.append("validate")
        if self.name == "buggy":
            raise KeyError("x\ny")
        if self.name == "hanging":
            raise TimeoutError
        return Status(self.name == "well", "" if self.name == "well" else "535 5.7.8 \x1bwrong password")

    async def logoff(self) -> None:
        self.calls.append("logoff")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("SPOOLD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "DEFAULT_FILES", ("spoold.toml",))


def spoold_check(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    parser.add_argument("--queue")
    check.add(parser.add_subparsers())
    args = parser.parse_args(arguments)
    return int(args.run(args))


def test_a_good_configuration_is_printed_as_it_holds_with_secrets_masked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("spoold.toml").write_text('[transports.relay]\nhost = "relay"\nusername = "ann"\npassword = "hunter2"\n')
    assert spoold_check("--queue", "mine.db", "check") == 0
    output, errors = capsys.readouterr()
    assert output.startswith("# spoold.toml\n[queue]\n")
    held = tomllib.loads(output)
    assert held["queue"]["url"] == "mine.db"
    assert held["transports"]["relay"]["tls"] == "starttls"
    assert "hunter2" not in output
    assert errors == ""


def test_every_error_is_a_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_text('[transports.relay]\nport = 0\n[log]\nlevel = "x"\n')
    assert spoold_check("--config", "bad.toml", "check") == 78
    output, errors = capsys.readouterr()
    assert output == ""
    assert [line.split(" ")[:2] for line in errors.splitlines()] == [
        ["spoold:", "bad.toml:1:"],
        ["spoold:", "bad.toml:2:"],
        ["spoold:", "bad.toml:4:"],
    ]


def test_a_configuration_without_a_transport_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert spoold_check("check") == 78
    assert capsys.readouterr().err.startswith("spoold: no transport: ")
    assert spoold_check("check", "--relay", "smtp://relay") == 0


def test_probe_tells_of_each_transport_in_a_line_and_logs_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transports = {name: Answering(name) for name in ("well", "ill", "faulty", "buggy", "hanging")}

    def build(_: Any) -> dict[str, Answering]:
        return transports

    monkeypatch.setattr(registry, "build", build)
    assert spoold_check("check", "--relay", "smtp://relay", "--probe") == 69
    assert capsys.readouterr().out.split("\n\n")[-1].splitlines() == [
        "# well: ok",
        "# ill: failed: 535 5.7.8  wrong password",
        "# faulty: failed: password_file: no such file",
        "# buggy: failed: internal error of the transport: KeyError: 'x\\ny'",
        "# hanging: failed: no answer within 60 seconds",
    ]
    assert transports["buggy"].calls == ["logon", "validate", "logoff"]
    for name in ("ill", "faulty", "buggy", "hanging"):
        del transports[name]
    assert spoold_check("check", "--relay", "smtp://relay", "--probe") == 0


def test_the_command_is_an_ordinary_one() -> None:
    parser = argparse.ArgumentParser()
    check.add(parser.add_subparsers())
    assert SimpleNamespace(**vars(parser.parse_args(["check"]))).probe is False
