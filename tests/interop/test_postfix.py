"""What Postfix and spoold say to each other, beside the messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from spooler_process import SpoolerProcess
from waiting import eventually

from tests.interop.conftest import CROWD
from tests.interop.outgoing import HELLO, assert_sent, config, drain, look, recipients, submit, submit_each, trusting
from tests.interop.postfix import BUSY, ERRORS, FEW, FORBIDDEN, SMALL_LIMIT, WITH_TLS, Postfix

ANN, BOB, NOBODY, JUERGEN = "ann@example.com", "bob@example.com", "nobody@example.com", "jürgen@example.com"
READ = ""  # in a list of what Postfix has logged: a read from the network


@pytest.mark.parametrize("tls", WITH_TLS)
async def test_tls_is_used_with_the_authority_that_signed(
    queue: Path, postfix: Postfix, ca_file: Path, tls: str
) -> None:
    said = len(postfix.log)
    entry_id = submit(queue, HELLO, ANN, BOB)
    await drain(queue, config=config(postfix.ports[WITH_TLS[tls]], *trusting(ca_file, tls)))
    assert_sent(queue, entry_id)
    await eventually(lambda: postfix.at_rest)
    assert postfix.inbox(ANN) == postfix.inbox(BOB) == [HELLO]
    assert "TLS connection established from unknown[127.0.0.1]: TLSv1.3" in postfix.log[said:]


@pytest.mark.parametrize("tls", WITH_TLS)
async def test_a_certificate_signed_by_someone_else_defers_and_nothing_is_said(
    queue: Path, postfix: Postfix, strange_ca_file: Path, tls: str
) -> None:
    said = len(postfix.log)
    entry_id = submit(queue)
    port = postfix.ports[WITH_TLS[tls]]
    await drain(queue, config=config(port, *trusting(strange_ca_file, tls)))
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, ann.in_doubt) == ("queued", False)
    assert ann.last_reply is not None
    assert ann.last_reply.enhanced == "4.7.5"
    assert f"certificate of 127.0.0.1:{port} could not be verified" in ann.last_reply.text
    await eventually(lambda: "disconnect from" in postfix.log[said:])
    assert "client=" not in postfix.log[said:], "Postfix was told of a message"
    assert not postfix.inbox(ANN)


async def test_a_server_without_starttls_is_not_spoken_to_in_the_clear_where_tls_is_required(
    queue: Path, postfix: Postfix
) -> None:
    entry_id = submit(queue)
    await drain(queue, config=config(postfix.ports["clear"], 'tls = "starttls"'))
    ann = recipients(queue, entry_id)[ANN]
    assert ann.state == "queued"
    assert ann.last_reply is not None
    assert ann.last_reply.enhanced == "4.7.4"
    assert not postfix.inbox(ANN)


@pytest.mark.parametrize("service", ["smtp", "clear"], ids=["PIPELINING", "no PIPELINING"])
async def test_of_several_recipients_each_gets_the_state_that_postfix_gave_him(
    queue: Path, postfix: Postfix, service: str
) -> None:
    entry_id = submit(queue, HELLO, NOBODY, ANN, BUSY, BOB)
    await drain(queue, postfix.url(service))
    found = recipients(queue, entry_id)
    assert {address: recipient.state for address, recipient in found.items()} == {
        NOBODY: "failed",
        ANN: "sent",
        BUSY: "queued",
        BOB: "sent",
    }
    replies = {address: recipient.last_reply for address, recipient in found.items()}
    assert str(replies[NOBODY]).startswith("550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown")
    assert str(replies[BUSY]).startswith("450 4.2.1 <busy@example.com>: Recipient address rejected: mailbox busy")
    assert re.match(r"250 2\.0\.0 Ok: queued as [0-9A-F]+$", str(replies[ANN]))
    assert not any(recipient.in_doubt for recipient in found.values())
    await eventually(lambda: postfix.at_rest)
    assert postfix.inbox(ANN) == postfix.inbox(BOB) == [HELLO]


async def test_nothing_is_sent_where_nobody_is_known_and_the_session_serves_the_next_message(
    queue: Path, postfix: Postfix
) -> None:
    said = len(postfix.log)
    refused = [submit(queue, HELLO, NOBODY, f"other-{number}@example.com") for number in range(5)]
    taken = submit(queue)
    await drain(queue, postfix.url())
    assert {look(queue, entry_id).state for entry_id in refused} == {"failed"}
    assert_sent(queue, taken)
    await eventually(lambda: postfix.at_rest)
    assert postfix.inbox(ANN) == [HELLO]
    assert "lost connection" not in postfix.log[said:]


async def test_a_session_that_postfix_ends_for_too_many_errors_leaves_the_unanswered_queued(
    queue: Path, postfix: Postfix
) -> None:
    unknown = [f"other-{number}@example.com" for number in range(2 * ERRORS)]
    entry_id = submit(queue, HELLO, *unknown, ANN)
    await drain(queue, postfix.url())
    found = recipients(queue, entry_id)
    assert [found[address].state for address in unknown] == ["failed"] * ERRORS + ["queued"] * ERRORS
    assert (found[ANN].state, found[ANN].in_doubt) == ("queued", False)
    assert str(found[ANN].last_reply).startswith("421 4.7.0 ")
    assert not postfix.inbox(ANN)


async def test_recipients_beyond_the_servers_limit_wait_for_another_attempt(queue: Path, postfix: Postfix) -> None:
    entry_id = submit(queue, HELLO, *CROWD[: 2 * FEW])
    await drain(queue, postfix.url("few"))
    found = recipients(queue, entry_id)
    assert [found[address].state for address in CROWD[: 2 * FEW]] == ["sent"] * FEW + ["queued"] * FEW
    assert str(found[CROWD[FEW]].last_reply) == "452 4.5.3 Error: too many recipients"


async def test_a_crowd_of_recipients_gets_one_copy_each(queue: Path, postfix: Postfix) -> None:
    entry_id = submit(queue, HELLO, *CROWD)
    await drain(queue, postfix.url())
    assert_sent(queue, entry_id)
    await eventually(lambda: postfix.at_rest)
    assert [postfix.inbox(address) for address in CROWD] == [[HELLO]] * len(CROWD)


async def test_a_crowd_of_messages_arrives_once_each(queue: Path, postfix: Postfix) -> None:
    submit_each(queue, dict.fromkeys(CROWD, HELLO))
    spooler = await drain(queue, postfix.url())
    assert len(spooler.events("sent")) == len(CROWD)
    await eventually(lambda: postfix.at_rest)
    assert [postfix.inbox(address) for address in CROWD] == [[HELLO]] * len(CROWD)


async def test_a_session_that_postfix_has_ended_meanwhile_costs_no_attempt(queue: Path, postfix: Postfix) -> None:
    async def send_and_be_hung_up_on() -> None:
        said = len(postfix.log)
        entry_id = submit(queue)
        await eventually(lambda: look(queue, entry_id).state == "sent")
        assert recipients(queue, entry_id)[ANN].attempts == 1
        await eventually(lambda: "timeout after END-OF-MESSAGE" in postfix.log[said:])

    async with SpoolerProcess(queue, postfix.url("impatient")):
        await send_and_be_hung_up_on()
        await send_and_be_hung_up_on()
    await eventually(lambda: postfix.at_rest)
    assert postfix.inbox(ANN) == [HELLO, HELLO]


async def test_a_greeting_in_two_parts_is_awaited_to_its_end(queue: Path, postfix: Postfix) -> None:
    said = len(postfix.log)
    entry_id = submit(queue)
    await drain(queue, postfix.url("screened"))
    assert_sent(queue, entry_id)
    await eventually(lambda: postfix.at_rest)
    assert postfix.inbox(ANN) == [HELLO]
    assert "PASS NEW [127.0.0.1]" in postfix.log[said:]
    assert "PREGREET" not in postfix.log[said:]


async def test_a_message_refused_after_the_dot_has_failed_and_is_not_in_doubt(queue: Path, postfix: Postfix) -> None:
    entry_id = submit(queue, f"From: app@example.com\nSubject: {FORBIDDEN}\n\nx\n".encode(), ANN, BOB)
    await drain(queue, postfix.url())
    for recipient in recipients(queue, entry_id).values():
        assert (recipient.state, recipient.in_doubt) == ("failed", False)
        assert str(recipient.last_reply) == "550 5.7.1 not wanted"
    assert postfix.at_rest
    assert not postfix.inbox(ANN)


async def test_a_message_beyond_the_announced_size_fails_untried(queue: Path, postfix: Postfix) -> None:
    said = len(postfix.log)
    entry_id = submit(queue, HELLO + b"x" * SMALL_LIMIT)
    await drain(queue, postfix.url("small"))
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, str(ann.last_reply)[:5]) == ("failed", "5.3.4")
    assert "too much mail" not in postfix.log[said:]


async def test_a_message_beyond_a_size_that_was_not_announced_fails_with_the_servers_words(
    queue: Path, postfix: Postfix
) -> None:
    entry_id = submit(queue, HELLO + b"x" * 2 * SMALL_LIMIT)
    await drain(queue, postfix.url("sizeless"))
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, ann.in_doubt) == ("failed", False)
    assert str(ann.last_reply).startswith("552 5.3.4 Error: message file too big")


async def test_an_address_in_utf8_goes_with_smtputf8(queue: Path, postfix: Postfix) -> None:
    entry_id = submit(queue, HELLO, JUERGEN, ANN)
    await drain(queue, postfix.url())
    assert_sent(queue, entry_id)
    await eventually(lambda: postfix.at_rest)
    assert postfix.inbox(JUERGEN) == postfix.inbox(ANN) == [HELLO]


async def test_without_smtputf8_an_address_in_utf8_fails_and_the_others_get_the_message(
    queue: Path, postfix: Postfix
) -> None:
    entry_id = submit(queue, HELLO, JUERGEN, ANN)
    await drain(queue, postfix.url("clear"))
    found = recipients(queue, entry_id)
    assert (found[JUERGEN].state, found[ANN].state) == ("failed", "sent")
    assert str(found[JUERGEN].last_reply).startswith("5.6.7")
    await eventually(lambda: postfix.at_rest)
    assert postfix.inbox(ANN) == [HELLO]


@pytest.mark.parametrize("tls", ["none", "starttls"])
async def test_mail_all_rcpt_and_data_come_to_postfix_in_one_piece(
    queue: Path, postfix: Postfix, ca_file: Path, tls: str
) -> None:
    said = len(postfix.log)
    entry_id = submit(queue, HELLO, ANN, BOB, NOBODY)
    lines = trusting(ca_file, tls) if tls == "starttls" else ['tls = "none"']
    await drain(queue, config=config(postfix.ports["verbose"], *lines))
    await eventually(lambda: postfix.at_rest)
    log = postfix.log[said:]
    (fd,) = set(re.findall(r"_get_ready: fd (\d+) got \d+\n.*< unknown\[127\.0\.0\.1\]: EHLO", log))
    heard = re.findall(rf"_get_ready: fd {fd} got |< unknown\[127\.0\.0\.1\]: (MAIL|RCPT|DATA)", log)
    transaction = heard[heard.index("MAIL") - 1 : heard.index("DATA") + 1]
    assert transaction == [READ, "MAIL", "RCPT", "RCPT", "RCPT", "DATA"]
    assert look(queue, entry_id).state == "partial"
