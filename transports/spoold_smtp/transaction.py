"""One mail transaction: MAIL, RCPT, DATA, the message, the lock, the final dot (RFC 5321 3.3, RFC 2920).

    envelope   MAIL, every RCPT and DATA, in one write if the server offers PIPELINING
    data       the message to its last CRLF, streamed
    lock       exactly those whom the server took; a refused lock breaks the connection off
    end        the dot, and the reply that decides

Until the dot is written nobody can have the message: whatever goes wrong is Deferred, even after the lock. From then on
only a well-formed 2yz, 4yz or 5yz tells what became of it; anything else is InDoubt. A dot without a lock is never
written, not even after no message at all: where DATA was let in without a recipient, the connection is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from spoold.provider import Accepted, Deferred, Delivery, InDoubt, Outcome, Recipient, Rejected, Reply
from spoold_smtp import envelope
from spoold_smtp.connection import SERVICE_CLOSING, Connection
from spoold_smtp.content import DataEncoder, close_content, header_is_ascii
from spoold_smtp.reply import WireReply, reply_from
from spoold_smtp.timeouts import Timeouts

BLOCK = 64 * 1024  # octets that are encoded and written at a time; a message up to this size is one write
START_MAIL_INPUT = 354
# 552 to RCPT once meant "too many recipients" (RFC 5321 4.5.3.1.10)
TOO_MANY_RECIPIENTS = 552
# Refusals of the data that RFC 5321 4.3.2 provides for. Other 5yz in its midst, such as 500, mean that the server took
# the data for commands: a fault of the session, not of the message.
DATA_REFUSED = frozenset({550, 552, 554})
# RFC 4954 6, RFC 3207 4: it is the session that lacks something, not the message.
SESSION_NOT_ALLOWED = 530
_BROKEN_OFF = Reply.local("4.4.2", "the transaction was broken off")


class StaleConnection(Exception):
    """A connection that had been idle was gone before the server had answered anything: try again on a fresh one."""


class Transaction:
    """The transaction of one delivery on one connection.

    `outcomes` has those who are refused beforehand; `run()` completes it. Afterwards the connection is either `sound`
    and ready for the next transaction, or broken.
    """

    __slots__ = ("_connection", "_delivery", "_message", "_outcomes", "_recipients", "_timeouts")

    def __init__(
        self, connection: Connection, delivery: Delivery, outcomes: dict[Recipient, Outcome], timeouts: Timeouts
    ) -> None:
        self._connection = connection
        self._delivery = delivery
        self._outcomes = dict(outcomes)
        self._recipients: Sequence[Recipient] = delivery.recipients
        self._timeouts = timeouts
        self._message: bytes | None = None

    async def run(self) -> dict[Recipient, Outcome]:
        """Carry it out. Raises StaleConnection, and what `lock()` and `content()` raise; the connection is then dead."""
        try:
            smtputf8 = await self._sort_out()
            if self._recipients:
                taken = await self._envelope(smtputf8)
                if taken:
                    await self._data()
                    if self._connection.check():
                        await self._delivery.lock(taken)
                        await self._end_of_data(taken)
                    else:
                        self._give_up(data_begun=True)
        except BaseException:
            self._connection.break_off(_BROKEN_OFF)
            raise
        self._connection.transactions += 1
        return self._outcomes

    async def _sort_out(self) -> bool:
        """Refuse without trying what this server cannot take. True if SMTPUTF8 is to be used."""
        delivery, connection = self._delivery, self._connection
        refusal = envelope.too_big(delivery, connection.extensions, connection.peer)
        if refusal is not None:
            self._settle(refusal)
        smtputf8 = envelope.needs_smtputf8(delivery)
        if smtputf8 and not connection.extensions.smtputf8:
            plain_header = not delivery.utf8 or await header_is_ascii(delivery.content())
            for recipient, outcome in envelope.without_smtputf8(delivery, plain_header, connection.peer).items():
                self._outcomes.setdefault(recipient, outcome)
            smtputf8 = False
        if self._outcomes:
            self._recipients = [r for r in self._recipients if r not in self._outcomes]
        return smtputf8

    async def _envelope(self, smtputf8: bool) -> list[Recipient]:
        """MAIL, RCPT and DATA. Returns those whom the server took, if it awaits the message; the others are settled."""
        connection = self._connection
        mail = envelope.mail_command(self._delivery, connection.extensions, smtputf8)
        if connection.extensions.pipelining:
            self._ask_all(mail)
            if self._delivery.size <= BLOCK:
                self._message = await self._small_message()  # while the server thinks
            replies = await connection.answers()
        else:
            replies = await self._one_by_one(mail)
        unanswered = not replies or replies[0].code == SERVICE_CLOSING
        if unanswered and connection.gone and connection.transactions:
            raise StaleConnection
        taken, awaits_message = self._judge(replies)
        if taken and awaits_message and not connection.broken:
            return taken
        if awaits_message:
            # RFC 2920 3.1 would have us send an empty message; but a dot needs a lock, and there is nobody to lock.
            connection.break_off(_BROKEN_OFF)
        if connection.broken:
            self._give_up()
        elif replies[0].code < 300:
            await self._reset()
        return []

    def _ask_all(self, mail: bytes) -> None:
        """Send all commands at once (RFC 2920)."""
        recipients = self._recipients
        commands = b"".join([mail, *map(envelope.rcpt_command, recipients), b"DATA\r\n"])
        self._connection.ask(commands, len(recipients) + 2, self._timeouts.command, "the replies to MAIL, RCPT, DATA")

    async def _one_by_one(self, mail: bytes) -> list[WireReply]:
        """The replies, as far as it made sense to go on."""
        seconds = self._timeouts.command
        replies = await self._command(mail, seconds, "the reply to MAIL")
        if not replies or replies[0].code >= 300:
            return replies
        taken = False
        for recipient in self._recipients:
            answer = await self._command(envelope.rcpt_command(recipient), seconds, "the reply to RCPT")
            if not answer:
                return replies
            replies += answer
            taken = taken or answer[0].code < 300
        if taken:
            replies += await self._command(b"DATA\r\n", self._timeouts.data, "the reply to DATA")
        return replies

    async def _command(self, command: bytes, seconds: float, awaited: str) -> list[WireReply]:
        self._connection.ask(command, 1, seconds, awaited)
        return await self._connection.answers()

    def _judge(self, replies: list[WireReply]) -> tuple[list[Recipient], bool]:
        """Settle whom the replies refuse. Returns those who were taken, and whether the server awaits the message."""
        taken: list[Recipient] = []
        recipients = self._recipients
        data = replies[len(recipients) + 1] if len(replies) > len(recipients) + 1 else None
        awaits_message = data is not None and data.code == START_MAIL_INPUT
        if not replies:
            return taken, awaits_message
        if replies[0].code >= 300:
            self._refuse(recipients, replies[0], "MAIL")
            return taken, awaits_message
        for recipient, reply in zip(recipients, replies[1:], strict=False):
            if reply.code < 300:
                taken.append(recipient)
            elif reply.code == TOO_MANY_RECIPIENTS and taken and _says_too_many(reply):
                self._outcomes[recipient] = Deferred(reply_from(*reply))
            else:
                self._refuse([recipient], reply, "RCPT")
        if data is not None and not awaits_message and taken:
            self._refuse(taken, data, "DATA")
        return taken, awaits_message

    def _refuse(self, recipients: Sequence[Recipient], reply: WireReply, command: str) -> None:
        """Settle the recipients as a negative reply says. Any other reply is none to this command."""
        outcome: Outcome
        if command == "MAIL" and reply.code == SESSION_NOT_ALLOWED:
            outcome = Deferred(reply_from(*reply), destination_down=True)
        elif reply.code >= 500:
            outcome = Rejected(reply_from(*reply))
        elif reply.code >= 400:
            outcome = Deferred(reply_from(*reply))
        else:
            text = f"unexpected reply to {command}: {reply_from(*reply)}"
            self._connection.break_off(Reply.local("4.5.0", text))
            return
        self._outcomes.update(dict.fromkeys(recipients, outcome))

    async def _data(self) -> None:
        """Write the message up to its last CRLF; stops as soon as the connection breaks."""
        connection, seconds = self._connection, self._timeouts.block
        if self._delivery.size <= BLOCK:
            message = self._message if self._message is not None else await self._small_message()
            await connection.send(message, seconds)
            return
        encoder = DataEncoder()
        content = self._delivery.content()
        try:
            async for chunk in content:
                for start in range(0, len(chunk), BLOCK):
                    await connection.send(encoder.feed(chunk[start : start + BLOCK]), seconds)
                    await asyncio.sleep(0)  # let others run, and let us hear a server that has had enough
                    if connection.broken:
                        return
            await connection.send(encoder.finish(), seconds)
        except BaseException:
            connection.break_off(_BROKEN_OFF)  # at once: what follows may take a while
            raise
        finally:
            await close_content(content)

    async def _small_message(self) -> bytes:
        encoder = DataEncoder()
        chunks = [encoder.feed(chunk) async for chunk in self._delivery.content()]
        chunks.append(encoder.finish())
        return b"".join(chunks)

    async def _end_of_data(self, taken: list[Recipient]) -> None:
        """Write the dot, and let the reply to it decide."""
        connection = self._connection
        if not connection.check():
            self._give_up(data_begun=True)  # locked, but nobody has the message: the dot has not been written
            return
        outcome: Outcome
        connection.ask(b".\r\n", 1, self._timeouts.end_of_data, "the reply to the end of data")
        replies = await connection.answers()
        if not replies:
            outcome = InDoubt(str(connection.broken))
        elif replies[0].code < 300:
            outcome = Accepted(reply_from(*replies[0]))
        elif replies[0].code < 400:
            text = f"unexpected reply to the end of data: {reply_from(*replies[0])}"
            connection.break_off(Reply.local("4.5.0", text))
            outcome = InDoubt(text)
        else:
            self._refuse(taken, replies[0], "DATA")
            return
        for recipient in taken:
            self._outcomes[recipient] = outcome

    async def _reset(self) -> None:
        """Have the server forget the transaction that came to nothing (RFC 5321 4.1.1.5)."""
        replies = await self._command(b"RSET\r\n", self._timeouts.reset, "the reply to RSET")
        if replies and replies[0].code >= 300:
            self._connection.break_off(Reply.local("4.5.0", f"RSET refused: {reply_from(*replies[0])}"))

    def _give_up(self, *, data_begun: bool = False) -> None:
        """Settle everyone who is left after the connection broke, before a dot was written."""
        connection = self._connection
        reason = connection.broken or _BROKEN_OFF
        outcome: Outcome = Deferred(reason)
        if data_begun and connection.unasked is not None and connection.unasked.code in DATA_REFUSED:
            outcome = Rejected(reply_from(*connection.unasked))
        self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        for recipient in self._recipients:
            self._outcomes.setdefault(recipient, outcome)


def _says_too_many(reply: WireReply) -> bool:
    enhanced = reply_from(*reply).enhanced
    return enhanced is None or enhanced.endswith(".5.3")
