"""Every real message, and a large one, through real servers: what arrives is compared octet by octet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from waiting import eventually

from tests.interop.conftest import NewSink
from tests.interop.outgoing import SENDER, assert_sent, config, drain, submit_each, trusting
from tests.interop.postfix import WITH_TLS, Postfix, as_kept
from tests.interop.real_mail import AWKWARD, LARGE, on_the_wire


@pytest.fixture
def messages(corpus: Mapping[str, bytes]) -> dict[str, bytes]:
    return {**corpus, **{f"{name}@example.com": content for name, content in AWKWARD.items()}}


async def test_smtp_sink_gets_every_message_octet_by_octet(
    queue: Path, messages: Mapping[str, bytes], new_sink: NewSink
) -> None:
    messages = {**messages, "large@example.com": LARGE}
    entry_ids = submit_each(queue, messages)
    async with new_sink() as sink:
        await drain(queue, sink.url)
        assert_sent(queue, *entry_ids.values())
        arrived = {mail.rcpts: mail for mail in sink.mails}
        assert len(sink.mails) == len(arrived) == len(messages)
    for address, content in messages.items():
        mail = arrived[f"<{address}>",]
        assert mail.content == on_the_wire(content).replace(b"\r\n", b"\n"), address
        assert mail.mail == f"<{SENDER}>" + ("" if content.isascii() else " BODY=8BITMIME"), address


@pytest.mark.parametrize(
    ("options", "protocol"),
    [(["-p"], "ESMTP"), (["-8", "-E"], "ESMTP"), (["-e"], "SMTP"), (["-P"], "SMTP"), (["-f", "EHLO"], "SMTP")],
    ids=["no PIPELINING", "no 8BITMIME", "no ESMTP", "PIX", "EHLO refused"],
)
async def test_a_server_that_can_do_less_gets_every_message_octet_by_octet(
    queue: Path, messages: Mapping[str, bytes], new_sink: NewSink, options: list[str], protocol: str
) -> None:
    entry_ids = submit_each(queue, messages)
    async with new_sink(*options) as sink:
        await drain(queue, sink.url)
        assert_sent(queue, *entry_ids.values())
        arrived = {mail.rcpts: mail for mail in sink.mails}
        assert len(sink.mails) == len(arrived) == len(messages)
    for address, content in messages.items():
        mail = arrived[f"<{address}>",]
        assert mail.content == on_the_wire(content).replace(b"\r\n", b"\n"), address
        assert mail.protocol == protocol


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
async def test_postfix_delivers_every_message_octet_by_octet_but_for_its_documented_repairs(
    queue: Path, messages: Mapping[str, bytes], postfix: Postfix, ca_file: Path, tls: str
) -> None:
    messages = {**messages, "large@example.com": LARGE}
    entry_ids = submit_each(queue, messages)
    if tls == "none":
        await drain(queue, postfix.url())
    else:
        await drain(queue, config=config(postfix.ports[WITH_TLS[tls]], *trusting(ca_file, tls)))
    assert_sent(queue, *entry_ids.values())
    await eventually(lambda: postfix.at_rest)
    for address, content in messages.items():
        assert postfix.inbox(address) == [as_kept(on_the_wire(content))], address
