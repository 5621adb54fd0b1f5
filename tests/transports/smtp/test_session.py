"""Opening a session: what can go wrong, and what it means."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from spoold.provider import Accepted, Deferred, Outcome, Reply, Status, TransportFault
from spoold_smtp import SmtpTransport
from spoold_smtp import session as spoold_session
from tests.transports.smtp.conftest import Relay
from tests.transports.smtp.doubles import ANN, FakeDelivery, ScriptedServer, Session

PASSWORD = "correct horse"
LOGIN = {"username": "ann", "password": PASSWORD}
PLAIN = base64.b64encode(b"\0ann\0" + PASSWORD.encode()).decode()


async def deliver(transport: SmtpTransport) -> Outcome:
    return (await transport.deliver(FakeDelivery(ANN)))[ANN]


def down(reply: Reply) -> Deferred:
    return Deferred(reply, destination_down=True)


async def accepting(session: Session) -> None:
    await session.greet("PIPELINING")
    await session.envelope()
    await session.message()
    session.say("250 ok")


def saying(octets: bytes) -> Callable[[Session], Awaitable[None]]:
    async def script(session: Session) -> None:
        session.say_raw(octets)

    return script


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_a_refused_connection_means_that_the_destination_is_down(relay: Relay) -> None:
    port = closed_port()
    transport = await relay(port)
    assert await deliver(transport) == down(Reply.local("4.4.1", f"connection to 127.0.0.1:{port} refused"))


async def test_a_name_that_does_not_resolve_means_that_the_destination_is_down(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    transport = await relay(25, host="nowhere.test")
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    reply = Reply.local("4.4.3", "host name nowhere.test does not resolve: Name or service not known")
    assert await deliver(transport) == down(reply)


async def test_the_next_address_of_a_host_is_tried_where_one_refuses(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def two(*_: object) -> list[tuple[int, str]]:
        return [(socket.AF_INET, "127.0.0.9"), (socket.AF_INET, "127.0.0.1")]

    monkeypatch.setattr(spoold_session, "_addresses", two)
    async with ScriptedServer(accepting) as server:
        transport = await relay(server.port, host="relay.test")
        assert isinstance(await deliver(transport), Accepted)
        await transport.logoff()


async def test_a_connection_comes_from_the_source_address(relay: Relay) -> None:
    async with ScriptedServer(accepting) as server:
        transport = await relay(server.port, source_address="127.0.0.5")
        assert isinstance(await deliver(transport), Accepted)
        assert server.sessions[0].writer.get_extra_info("peername")[0] == "127.0.0.5"
        await transport.logoff()


@pytest.mark.parametrize(
    ("greeting", "reply"),
    [
        (b"421 4.3.2 too busy\r\n", Reply(421, "4.3.2", "too busy")),
        (b"554 5.7.1 go away\r\n", Reply(554, "5.7.1", "go away")),
        (b"554-5.7.1 go\r\n554 5.7.1 away\r\n", Reply(554, "5.7.1", "go away")),
    ],
)
async def test_a_refusing_greeting_means_that_the_destination_is_down(
    relay: Relay, greeting: bytes, reply: Reply
) -> None:
    async with ScriptedServer(saying(greeting)) as server:
        transport = await relay(server.port)
        assert await deliver(transport) == down(reply)


@pytest.mark.parametrize(
    ("greeting", "fault"),
    [
        (b"hello\r\n", "protocol error: not a reply: b'hello\\r'"),
        (b"220 hi\n", "protocol error: a lone CR or LF in a reply"),
        (b"220 " + b"x" * 9000, "protocol error: a reply line longer than 4096 octets"),
        (b"220-x\r\n" * 200, "protocol error: a reply of more than 100 lines"),
        (b"220 hi\r\n250 ok\r\n", "the server spoke unasked"),
        (b"220 hi\r\n2", "the server spoke unasked"),
    ],
)
async def test_a_greeting_that_is_out_of_order_ends_the_attempt(relay: Relay, greeting: bytes, fault: str) -> None:
    async with ScriptedServer(saying(greeting)) as server:
        transport = await relay(server.port)
        assert await deliver(transport) == down(Reply.local("4.5.0", f"127.0.0.1:{server.port}: {fault}"))


async def test_a_server_that_does_not_greet_means_that_the_destination_is_down(relay: Relay) -> None:
    async with ScriptedServer(saying(b"")) as server:
        transport = await relay(server.port, timeout=0.05)
        outcome = await deliver(transport)
        assert isinstance(outcome, Deferred)
        assert outcome.destination_down
        assert "Timed out" in outcome.reply.text


async def test_a_server_that_hangs_up_instead_of_greeting_means_that_the_destination_is_down(relay: Relay) -> None:
    async def script(session: Session) -> None:
        session.close()

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        lost = Reply.local("4.4.2", f"connection to 127.0.0.1:{server.port} lost")
        assert await deliver(transport) == down(lost)


async def test_a_server_that_does_not_know_ehlo_is_served_with_helo(relay: Relay) -> None:
    async def old(session: Session) -> None:
        session.say("220 relay.test")
        await session.expect("EHLO client.test")
        session.say("502 what")
        await session.expect("HELO client.test")
        session.say("250 relay.test")
        for reply in ("250 ok", "250 ok", "354 go"):
            await session.expect("")
            session.say(reply)
        await session.message()
        session.say("250 ok")

    async with ScriptedServer(old) as server:
        transport = await relay(server.port)
        assert isinstance(await deliver(transport), Accepted)
        await transport.logoff()


async def test_a_refused_ehlo_means_that_the_destination_is_down(relay: Relay) -> None:
    async def script(session: Session) -> None:
        session.say("220 relay.test")
        await session.expect("EHLO")
        session.say("451 4.7.1 greylisted")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert await deliver(transport) == down(Reply(451, "4.7.1", "greylisted"))


async def test_a_client_without_a_domain_name_says_its_address_in_ehlo(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")

    async def script(session: Session) -> None:
        session.say("220 relay.test")
        assert await session.expect("EHLO") == ["EHLO [127.0.0.1]"]
        session.say("421 4.3.2 enough")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, local_hostname=None)
        assert isinstance(await deliver(transport), Deferred)


async def test_opening_that_is_cancelled_leaves_no_connection_behind(relay: Relay) -> None:
    arrived = asyncio.Event()

    async def script(session: Session) -> None:
        session.say("220 relay.test")
        await session.expect("EHLO")
        arrived.set()

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        task = asyncio.ensure_future(deliver(transport))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# TLS


@pytest.mark.parametrize("injected", [b"250 injected\r\n", b"250-inj", b"x"])
@pytest.mark.parametrize("tls", ["opportunistic", "starttls"])
async def test_plain_text_sent_ahead_of_the_tls_handshake_ends_the_attempt(
    relay: Relay, tls: str, injected: bytes
) -> None:
    async def script(session: Session) -> None:
        await session.greet("STARTTLS")
        await session.expect("STARTTLS")
        session.say_raw(b"220 go ahead\r\n" + injected)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, tls=tls, **LOGIN)
        outcome = await deliver(transport)
        assert isinstance(outcome, Deferred)
        assert outcome.destination_down
        assert "the server spoke unasked" in outcome.reply.text or "protocol error" in outcome.reply.text
        await server.sessions[0].over.wait()
        assert server.sessions[0].read.endswith(b"STARTTLS\r\n"), "not even a handshake was begun"


@pytest.mark.parametrize("octets", [b"this is no TLS" * 20, b""])
async def test_a_handshake_that_fails_means_that_the_destination_is_down(relay: Relay, octets: bytes) -> None:
    async def script(session: Session) -> None:
        await session.greet("STARTTLS")
        await session.expect("STARTTLS")
        session.say("220 go ahead")
        await session.octets(1)  # the client's first words of the handshake
        session.say_raw(octets)
        session.close()

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        outcome = await deliver(transport)
        assert isinstance(outcome, Deferred)
        assert outcome.destination_down
        assert outcome.reply.enhanced in {"4.7.5", "4.4.2"}


async def test_required_tls_that_is_not_offered_defers(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet()

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, tls="starttls")
        reply = Reply.local("4.7.4", f"127.0.0.1:{server.port} does not offer STARTTLS")
        assert await deliver(transport) == down(reply)


async def test_required_tls_that_is_refused_defers(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("STARTTLS")
        await session.expect("STARTTLS")
        session.say("454 4.7.0 not now")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, tls="starttls")
        assert await deliver(transport) == down(Reply(454, "4.7.0", "not now"))


async def test_opportunistic_tls_goes_without_where_the_server_refuses_it(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("STARTTLS", "PIPELINING")
        await session.expect("STARTTLS")
        session.say("454 4.7.0 not now")
        await session.envelope()
        await session.message()
        session.say("250 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert isinstance(await deliver(transport), Accepted)
        await transport.logoff()


async def test_implicit_tls_to_a_server_of_an_unknown_authority_defers_with_the_reason(
    relay: Relay, server_tls: ssl.SSLContext
) -> None:
    async with ScriptedServer(tls=server_tls) as server:
        transport = await relay(server.port, tls="implicit")
        outcome = await deliver(transport)
        assert isinstance(outcome, Deferred)
        assert outcome.destination_down
        assert outcome.reply.enhanced == "4.7.5"
        assert f"certificate of 127.0.0.1:{server.port} could not be verified: unable to get" in outcome.reply.text


async def test_implicit_tls_to_a_server_by_another_name_defers_with_the_reason(
    relay: Relay, stranger_tls: ssl.SSLContext, ca_file: Path
) -> None:
    async with ScriptedServer(tls=stranger_tls) as server:
        transport = await relay(server.port, tls="implicit", tls_ca_file=ca_file)
        outcome = await deliver(transport)
        assert isinstance(outcome, Deferred)
        assert "IP address mismatch" in outcome.reply.text


async def test_implicit_tls_to_a_server_without_it_defers(relay: Relay) -> None:
    async def script(session: Session) -> None:
        session.say("220 relay.test")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, tls="implicit")
        outcome = await deliver(transport)
        assert isinstance(outcome, Deferred)
        assert outcome.reply.enhanced == "4.7.5"
        assert outcome.reply.text.startswith(f"TLS with 127.0.0.1:{server.port} failed")


async def test_a_lock_refused_under_tls_ends_the_session_without_a_dot_or_an_orderly_end(
    relay: Relay, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    async def refuse(_: object) -> None:
        raise LookupError

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()

    async with ScriptedServer(script, tls=server_tls) as server:
        transport = await relay(server.port, tls="implicit", tls_ca_file=ca_file)
        with pytest.raises(LookupError):
            await transport.deliver(FakeDelivery(ANN, on_lock=refuse))
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"
        assert b"\r\n.\r\n" not in server.sessions[0].read


async def test_logoff_under_tls_says_quit(relay: Relay, server_tls: ssl.SSLContext, ca_file: Path) -> None:
    async with ScriptedServer(accepting, tls=server_tls) as server:
        transport = await relay(server.port, tls="implicit", tls_ca_file=ca_file)
        assert isinstance(await deliver(transport), Accepted)
        await transport.logoff()
    assert server.sessions[0].quit


async def test_a_file_of_certificates_that_is_none_is_a_fault_at_logon(relay: Relay, tmp_path: Path) -> None:
    with pytest.raises(TransportFault, match=r"cannot read tls_ca_file .*absent.pem: No such file"):
        await relay(25, tls="starttls", tls_ca_file=tmp_path / "absent.pem")
    (tmp_path / "rubbish.pem").write_text("rubbish")
    with pytest.raises(TransportFault, match=r"cannot read tls_ca_file .*rubbish.pem"):
        await relay(25, tls="starttls", tls_ca_file=tmp_path / "rubbish.pem")


# AUTH


async def test_credentials_are_not_sent_where_the_server_offers_no_tls(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH PLAIN LOGIN")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, tls="opportunistic", **LOGIN)
        with pytest.raises(TransportFault, match="offers no TLS, so the credentials of user 'ann' were not sent"):
            await deliver(transport)
        await server.sessions[0].over.wait()
        assert b"AUTH" not in server.sessions[0].read


async def test_credentials_without_tls_are_a_fault_at_logon(relay: Relay) -> None:
    with pytest.raises(TransportFault, match="tls = \"none\" would send the credentials of user 'ann' in plain text"):
        await relay(25, tls="none", **LOGIN)


async def test_credentials_go_in_plain_text_where_that_is_allowed(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH PLAIN")
        await session.expect(f"AUTH PLAIN {PLAIN}\r\n")
        session.say("235 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, tls="none", allow_plaintext_auth=True, **LOGIN)
        pool = transport._pool
        pool.release(await pool.open())
        await transport.logoff()


REFUSED = "535 5.7.8 no"


@pytest.mark.parametrize("auth", ["plain", "login", "cram-md5", "xoauth2"])
async def test_refused_credentials_are_a_fault_that_names_the_user_and_not_the_password(
    relay: Relay, auth: str
) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2")
        await session.expect(f"AUTH {auth.upper()}")
        if auth != "plain":
            session.say("334 " + base64.b64encode(b"<challenge>").decode())
            await session.expect("")
        session.say(REFUSED)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, allow_plaintext_auth=True, auth=auth, **LOGIN)
        with pytest.raises(TransportFault) as caught:
            await deliver(transport)
        assert str(caught.value) == (
            f"relay 127.0.0.1:{server.port} refused the credentials of user 'ann': 535 5.7.8 no"
        )


@pytest.mark.parametrize("echo", [PASSWORD, PLAIN, base64.b64encode(PASSWORD.encode()).decode()])
@pytest.mark.parametrize("code", ["535 5.7.8", "454 4.7.0"])
async def test_a_server_that_repeats_the_password_does_not_get_it_into_the_reason(
    relay: Relay, echo: str, code: str
) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH PLAIN")
        await session.expect("AUTH PLAIN")
        session.say(f"{code} bad: {echo} indeed")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, allow_plaintext_auth=True, **LOGIN)
        try:
            outcome = await deliver(transport)
        except TransportFault as fault:
            text = str(fault)
        else:
            assert isinstance(outcome, Deferred)
            text = str(outcome.reply)
        assert text.endswith(f"{code} bad: *** indeed")


async def test_a_temporary_failure_of_auth_means_that_the_destination_is_down(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH PLAIN")
        await session.expect("AUTH PLAIN")
        session.say("454 4.7.0 database away")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, allow_plaintext_auth=True, **LOGIN)
        assert await deliver(transport) == down(Reply(454, "4.7.0", "database away"))


async def test_a_mechanism_that_the_server_only_pretends_to_have_gives_way_to_the_next(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH CRAM-MD5 PLAIN LOGIN")
        await session.expect("AUTH CRAM-MD5")
        session.say("504 5.5.4 unknown mechanism")
        await session.expect("AUTH PLAIN")
        session.say("235 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, allow_plaintext_auth=True, **LOGIN)
        pool = transport._pool
        pool.release(await pool.open())
        await transport.logoff()


async def test_a_server_without_auth_is_a_fault(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH GSSAPI")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, allow_plaintext_auth=True, **LOGIN)
        with pytest.raises(TransportFault, match="does not offer AUTH for user 'ann'; it offers: GSSAPI"):
            await deliver(transport)


async def test_a_challenge_that_is_no_base64_means_that_the_destination_is_down(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH CRAM-MD5")
        await session.expect("AUTH CRAM-MD5")
        session.say("334 x")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, allow_plaintext_auth=True, **LOGIN)
        outcome = await deliver(transport)
        assert isinstance(outcome, Deferred)
        assert outcome.destination_down


async def test_words_after_the_reply_to_auth_end_the_attempt(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH PLAIN")
        await session.expect("AUTH PLAIN")
        session.say("235 ok", "250 surprise")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, allow_plaintext_auth=True, **LOGIN)
        reply = Reply.local("4.5.0", f"127.0.0.1:{server.port}: the server spoke unasked")
        assert await deliver(transport) == down(reply)


async def test_the_password_file_is_read_at_logon_and_again_by_validate(relay: Relay, tmp_path: Path) -> None:
    async def script(session: Session) -> None:
        await session.greet("AUTH PLAIN")
        line = (await session.expect("AUTH PLAIN"))[0]
        session.say("235 ok" if line.endswith(PLAIN) else REFUSED)

    async def probed(session: Session) -> None:
        await script(session)
        await session.expect("NOOP")
        session.say("250 2.0.0 here")

    path = tmp_path / "password"
    path.write_text("wrong\n")
    async with ScriptedServer(script, probed) as server:
        transport = await relay(server.port, allow_plaintext_auth=True, username="ann", password_file=path)
        status = await transport.validate()
        assert not status.ok
        assert "refused the credentials of user 'ann'" in status.reason
        path.write_text(PASSWORD + "\n")
        assert await transport.validate() == Status(True, f"127.0.0.1:{server.port} answered: 250 2.0.0 here")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b"\n", "is empty"), (b"\xff", "is not UTF-8 text")],
)
async def test_a_password_file_that_cannot_be_used_is_a_fault_at_logon(
    relay: Relay, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TransportFault, match=reason):
        await relay(25, username="ann", password_file=path)


# Probing


async def test_validate_tells_why_a_relay_is_not_well(relay: Relay) -> None:
    port = closed_port()
    transport = await relay(port)
    assert await transport.validate() == Status(False, f"4.4.1 connection to 127.0.0.1:{port} refused")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"421 4.3.2 closing\r\n", "421 4.3.2 closing"), (b"500 what\r\n", "127.0.0.1:{} refused NOOP: 500 what")],
)
async def test_validate_fails_where_noop_does(relay: Relay, answer: bytes, reason: str) -> None:
    async def script(session: Session) -> None:
        await session.greet()
        await session.expect("NOOP")
        session.say_raw(answer)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert await transport.validate() == Status(False, reason.format(server.port))


def test_every_relay_is_one_destination(tmp_path: Path) -> None:
    options = SmtpTransport.Options
    for keys, destination in [
        ({"host": "relay.test"}, "relay.test:25"),
        ({"host": "relay.test", **LOGIN}, "relay.test:587"),
        ({"host": "relay.test", "tls": "implicit", **LOGIN}, "relay.test:465"),
        ({"host": "relay.test", "port": 2525}, "relay.test:2525"),
        ({"host": "::1"}, "[::1]:25"),
        ({"host": "[::1]"}, "[::1]:25"),
    ]:
        transport = SmtpTransport("x", options.model_validate(keys))
        assert transport.destination("anyone@example.com") == destination
