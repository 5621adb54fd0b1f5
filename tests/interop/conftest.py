"""Real servers from Debian, on loopback. tools/interop.sh installs them; here a server that is missing is a failure."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import trustme
from waiting import eventually

from spoold.store.database import QueuePath, create
from tests.interop import real_mail
from tests.interop.postfix import Postfix
from tests.interop.smtp_sink import SmtpSink

PEOPLE = ["ann@example.com", "bob@example.com", "jürgen@example.com", "large@example.com"]
CROWD = [f"person-{number}@example.com" for number in range(250)]

NewSink = Callable[..., SmtpSink]


@pytest.fixture(scope="session")
def corpus() -> Mapping[str, bytes]:
    """Real messages, by the address that each goes to."""
    return real_mail.corpus()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who has signed Postfix's certificate."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(authority, tmp_path_factory)


@pytest.fixture(scope="session")
def strange_ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an authority that has signed nothing here."""
    return _written(trustme.CA(), tmp_path_factory)


def _written(authority: trustme.CA, folders: pytest.TempPathFactory) -> Path:
    path = folders.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="session")
def running_postfix(authority: trustme.CA, corpus: Mapping[str, bytes]) -> Iterator[Postfix]:
    awkward = [f"{name}@example.com" for name in real_mail.AWKWARD]
    with Postfix(authority, [*corpus, *awkward, *PEOPLE, *CROWD]) as running:
        yield running


@pytest.fixture
async def postfix(running_postfix: Postfix) -> Postfix:
    """One for the whole run, for each test with empty mailboxes."""
    async with asyncio.timeout(10):
        await eventually(lambda: running_postfix.at_rest)
    running_postfix.empty()
    return running_postfix


@pytest.fixture
def new_sink(tmp_path: Path) -> NewSink:
    """Makes an smtp-sink with the options given, to be entered with `async with`."""
    numbers = itertools.count()
    return lambda *options: SmtpSink(tmp_path / f"sink-{next(numbers)}", *options)


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "queue.db"
    create(QueuePath.of(path))
    return path
