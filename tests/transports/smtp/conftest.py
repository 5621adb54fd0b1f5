"""Everything here runs on asyncio's own event loop and on uvloop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
import trustme
import uvloop

from spoold_smtp import SmtpOptions, SmtpTransport

Relay = Callable[..., Awaitable[SmtpTransport]]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def relay() -> AsyncIterator[Relay]:
    """A transport to 127.0.0.1, logged on, with the options given; logged off at the end."""
    transports: list[SmtpTransport] = []

    async def logged_on(port: int, **options: object) -> SmtpTransport:
        keys = {"host": "127.0.0.1", "port": port, "local_hostname": "client.test", **options}
        transport = SmtpTransport("test", SmtpOptions.model_validate(keys))
        transports.append(transport)
        await transport.logon()
        return transport

    yield logged_on
    for transport in transports:
        await transport.logoff()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's TLS settings, with a certificate for 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def stranger_tls(authority: trustme.CA) -> ssl.SSLContext:
    """The same for a server whose certificate names somebody else."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.test").configure_cert(context)
    return context
