"""smtp-sink fails at every step in each of its ways; what becomes of the recipient follows from whether it had the dot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.interop.conftest import NewSink
from tests.interop.outgoing import HELLO, assert_sent, config, drain, look, recipients, submit
from tests.interop.real_mail import LARGE

ANN = "ann@example.com"
OTHERS = [f"person-{number}@example.com" for number in range(10)]
OPENING = ("CONNECT", "EHLO,HELO")
STEPS = ("MAIL", "RCPT", "DATA")
HARD = ("-B", "554 5.6.0 we do not want this", "-f")
SOFT = ("-b", "451 4.3.5 come back later", "-r")
DISCONNECT = ("-q",)
GOODBYE = ("-Q",)  # 421, then the connection is closed


@pytest.mark.parametrize("step", [*STEPS, "."])
async def test_a_hard_error_fails_the_recipient_with_the_servers_words(
    queue: Path, new_sink: NewSink, step: str
) -> None:
    async with new_sink(*HARD, step) as sink:
        entry_id = submit(queue)
        await drain(queue, sink.url)
        assert len(sink.mails) == (step == ".")
    assert look(queue, entry_id).state == "failed"
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, ann.in_doubt, ann.responsibility) == ("failed", False, True)
    assert str(ann.last_reply) == "554 5.6.0 we do not want this"


@pytest.mark.parametrize("step", OPENING)
async def test_a_hard_error_before_the_transaction_is_about_the_server_and_only_defers(
    queue: Path, new_sink: NewSink, step: str
) -> None:
    async with new_sink(*HARD, step) as sink:
        entry_id = submit(queue)
        await drain(queue, sink.url)
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, ann.in_doubt, ann.responsibility) == ("queued", False, False)
    assert str(ann.last_reply) == "554 5.6.0 we do not want this"


@pytest.mark.parametrize("step", [*OPENING, "EHLO", *STEPS, "."])
async def test_a_soft_error_defers_at_every_step(queue: Path, new_sink: NewSink, step: str) -> None:
    async with new_sink(*SOFT, step) as sink:
        entry_id = submit(queue)
        await drain(queue, sink.url)
        assert len(sink.mails) == (step == ".")
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, ann.in_doubt, ann.responsibility) == ("queued", False, False)
    assert str(ann.last_reply) == "451 4.3.5 come back later"
    assert ann.next_attempt_time is not None


@pytest.mark.parametrize("step", [*OPENING, "EHLO", *STEPS, "."])
async def test_a_421_defers_at_every_step_since_it_is_an_answer_even_to_the_dot(
    queue: Path, new_sink: NewSink, step: str
) -> None:
    async with new_sink(*GOODBYE, step) as sink:
        entry_id = submit(queue)
        await drain(queue, sink.url)
        assert len(sink.mails) == (step == ".")
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, ann.in_doubt) == ("queued", False)
    assert str(ann.last_reply) == "421 4.0.0 Server closing connection"


@pytest.mark.parametrize("pipelining", [[], ["-p"]], ids=["PIPELINING", "no PIPELINING"])
@pytest.mark.parametrize("step", [*OPENING, "EHLO", *STEPS])
async def test_a_connection_closed_before_the_dot_defers_and_leaves_no_doubt(
    queue: Path, new_sink: NewSink, step: str, pipelining: list[str]
) -> None:
    async with new_sink(*DISCONNECT, step, *pipelining) as sink:
        entry_id = submit(queue)
        await drain(queue, sink.url)
        assert not sink.mails
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, ann.in_doubt, ann.responsibility) == ("queued", False, False)
    assert ann.last_reply is not None
    assert ann.last_reply.enhanced == "4.4.2"


@pytest.mark.parametrize(("policy", "state"), [("retry", "queued"), ("hold", "held")])
async def test_a_connection_closed_after_the_dot_leaves_a_doubt(
    queue: Path, new_sink: NewSink, policy: str, state: str
) -> None:
    async with new_sink(*DISCONNECT, ".") as sink:
        entry_id = submit(queue)
        await drain(queue, config=config(sink.port, queue=f'in_doubt = "{policy}"'))
        assert len(sink.mails) == 1
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, ann.in_doubt, ann.responsibility) == (state, True, False)


@pytest.mark.parametrize("fault", [HARD, SOFT, DISCONNECT, GOODBYE], ids=["hard", "soft", "disconnect", "421"])
async def test_what_goes_wrong_with_quit_matters_to_nobody(
    queue: Path, new_sink: NewSink, fault: tuple[str, ...]
) -> None:
    async with new_sink(*fault, "QUIT") as sink:
        entry_id = submit(queue)
        await drain(queue, sink.url)
        assert len(sink.mails) == 1
    assert_sent(queue, entry_id)


@pytest.mark.parametrize("fault", [HARD, SOFT, DISCONNECT, GOODBYE], ids=["hard", "soft", "disconnect", "421"])
async def test_what_goes_wrong_with_rset_after_a_refusal_does_not_change_the_refusal(
    queue: Path, new_sink: NewSink, fault: tuple[str, ...]
) -> None:
    async with new_sink(*HARD, "RCPT", *fault, "RSET") as sink:
        entry_ids = [submit(queue) for _ in range(3)]
        await drain(queue, sink.url)
    for entry_id in entry_ids:
        ann = recipients(queue, entry_id)[ANN]
        assert (ann.state, str(ann.last_reply)) == ("failed", "554 5.6.0 we do not want this")


async def test_a_server_that_refuses_in_the_midst_of_the_data_fails_the_message_at_once(
    queue: Path, new_sink: NewSink
) -> None:
    async with new_sink("-A", "1", "-T", "4096") as sink:
        entry_id = submit(queue, LARGE)
        await drain(queue, sink.url)
        assert not sink.mails
    ann = recipients(queue, entry_id)[ANN]
    assert (ann.state, ann.in_doubt) == ("failed", False)
    assert str(ann.last_reply) == "550 This violates SMTP"


async def test_a_server_that_reads_late_and_little_gets_all_of_a_large_message(queue: Path, new_sink: NewSink) -> None:
    async with new_sink("-H", "1", "-T", "4096") as sink:
        entry_id = submit(queue, LARGE[: 2**20])
        await drain(queue, sink.url)
        assert len(sink.mails) == 1
    assert_sent(queue, entry_id)


async def test_a_server_that_serves_one_session_at_a_time_gets_everything(queue: Path, new_sink: NewSink) -> None:
    async with new_sink("-m", "1") as sink:
        entry_ids = [submit(queue, HELLO, address) for address in OTHERS]
        await drain(queue, config=config(sink.port, "connection_idle_time = 0.1"))
        assert sorted(mail.rcpts for mail in sink.mails) == sorted((f"<{address}>",) for address in OTHERS)
    assert_sent(queue, *entry_ids)


@pytest.mark.parametrize(
    ("options", "reads"), [([], 1), (["-p"], len(OTHERS) + 2)], ids=["PIPELINING", "no PIPELINING"]
)
async def test_with_pipelining_mail_all_rcpt_and_data_come_in_one_piece(
    queue: Path, new_sink: NewSink, options: list[str], reads: int
) -> None:
    async with new_sink("-v", "-v", "-v", *options) as sink:
        entry_id = submit(queue, HELLO, *OTHERS)
        await drain(queue, sink.url)
        (mail,) = sink.mails
        log = sink.log
    assert_sent(queue, entry_id)
    assert mail.rcpts == tuple(f"<{address}>" for address in OTHERS)
    heard = re.findall(r": (MAIL|RCPT|DATA|vstream_buf_get_ready: fd \d+ got) ?", log)
    transaction = heard[heard.index("MAIL") - 1 : heard.index("DATA") + 1]
    assert transaction.count("RCPT") == len(OTHERS)
    assert len(transaction) - len(OTHERS) - 2 == reads
