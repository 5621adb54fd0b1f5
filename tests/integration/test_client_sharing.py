"""A queue is shared: with other processes, with threads and tasks, with forked children, with spoolers that sleep."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from both import KINDS, Both
from hand import Hand

from spoold import AsyncSpool, Message, QueueBusy, Spool, UsageError
from spoold.store.database import QueuePath, create
from spoold.store.session import Session

PLAIN = b"From: app@example.com\nTo: ann@example.com\nSubject: hello\n\nhello\n"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create(QueuePath.of(tmp_path / "queue.db"))
    return tmp_path / "queue.db"


@pytest.fixture
def writer(queue: Path) -> Iterator[sqlite3.Connection]:
    """Another process, in the middle of writing."""
    connection = sqlite3.connect(queue, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def spool(request: pytest.FixtureRequest, queue: Path) -> AsyncIterator[Both]:
    async with Both(request.param, queue, busy_timeout=0.001) as both:
        yield both


# -- other processes ---------------------------------------------------------------------------------------------------


async def test_a_busy_queue_is_tried_several_times_and_then_reported(spool: Both, writer: sqlite3.Connection) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    spool.spool._pause = pause  # type: ignore[method-assign]
    with pytest.raises(QueueBusy, match="try again"):
        await spool.submit(PLAIN)
    assert len(pauses) == 3
    assert all(0 < seconds < 0.2 for seconds in pauses)


async def test_a_queue_that_is_free_again_takes_the_message_once(spool: Both, writer: sqlite3.Connection) -> None:
    async def pause(seconds: float) -> None:
        if writer.in_transaction:
            writer.execute("COMMIT")

    spool.spool._pause = pause  # type: ignore[method-assign]
    entry_ids = await spool.submit_many([PLAIN, PLAIN + b"x" * 3_000_000])
    assert {m.entry_id for m in await spool.list(all=True)} == set(entry_ids)
    assert len(entry_ids) == 2


def test_reading_does_not_wait_for_a_writer(queue: Path, writer: sqlite3.Connection) -> None:
    with Spool(queue, busy_timeout=0.001) as spool:
        assert spool.list() == []
        assert spool.status().outgoing == 0


# -- durability --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("durability", "relaxed"), [("full", 2), ("normal", 1)])
async def test_durability_relaxes_submitting_and_nothing_else(
    queue: Path, kind: type[Spool | AsyncSpool], durability: str, relaxed: int
) -> None:
    async with Both(kind, queue, durability=durability) as spool:
        seen: dict[str, int] = {}

        def watched(name: str) -> None:
            original = spool.spool._patiently

            async def patiently(session: Session, operation, durable: bool):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
                async def looking(inner: Session):  # type: ignore[no-untyped-def]  # noqa: ANN202
                    ((level,),) = await inner.rows("PRAGMA synchronous")
                    seen[name] = max(level, seen.get(name, 0))
                    return await operation(inner)

                return await original(session, looking, durable)

            spool.spool._patiently = patiently  # type: ignore[method-assign]

        first, *_ = await spool.submit_many([PLAIN] * 3)
        for name, call in {
            "submit": spool.submit(PLAIN),
            "hold": spool.hold(first),
            "hold many": spool.hold(all=True),
            "abort": spool.abort(first),
            "abort many": spool.abort_matching(all=True),
            "submit again": spool.submit(PLAIN),
        }.items():
            watched(name)
            await call
            del spool.spool._patiently
        assert seen == {
            "submit": relaxed, "hold": 2, "hold many": 2, "abort": 2, "abort many": 2, "submit again": relaxed,
        }  # fmt: skip


def test_an_unknown_durability_is_refused(queue: Path) -> None:
    with pytest.raises(UsageError, match="'careless' is not one of full, normal"):
        Spool(queue, durability="careless")


# -- threads and tasks -------------------------------------------------------------------------------------------------


def test_threads_may_share_a_spool(queue: Path) -> None:
    with Spool(queue, "normal") as spool:
        entry_ids: list[str] = []

        def work() -> None:
            for _ in range(50):
                entry_id = spool.submit(PLAIN)
                spool.hold(entry_id)
                entry_ids.append(entry_id)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {m.entry_id for m in spool.list(state="held")} == set(entry_ids)
        assert len(entry_ids) == 200


async def test_tasks_may_share_an_async_spool(queue: Path) -> None:
    async with AsyncSpool(queue) as spool:
        entry_ids = await asyncio.gather(*(spool.submit(PLAIN) for _ in range(100)))
        await asyncio.gather(*(spool.abort(entry_id) for entry_id in entry_ids[:50]))
        assert {m.entry_id for m in await spool.list()} == set(entry_ids[50:])


async def test_a_cancelled_operation_ends_before_the_cancellation_does(queue: Path) -> None:
    async with AsyncSpool(queue) as spool:
        for turns in range(60):  # wherever it strikes
            task = asyncio.create_task(spool.submit(PLAIN, key=str(turns)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert spool._connection is not None or turns == 0
            assert spool._connection is None or not spool._connection.in_transaction
        stored = await spool.list()
        again = [await spool.submit(PLAIN, key=str(turns)) for turns in range(60)]
        assert {m.entry_id for m in stored} <= set(again)
        assert len(await spool.list(all=True)) == 60


async def test_a_timeout_of_the_caller_leaves_the_spool_usable(queue: Path, writer: sqlite3.Connection) -> None:
    async with AsyncSpool(queue, busy_timeout=0.001) as spool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await spool.submit(PLAIN)
        writer.execute("COMMIT")
        entry_id = await spool.submit(PLAIN)
        assert [m.entry_id for m in await spool.list(all=True)] == [entry_id]


# -- processes that are forked -----------------------------------------------------------------------------------------


def test_a_spool_survives_a_fork_in_parent_and_child(queue: Path) -> None:
    with Spool(queue) as spool:
        before = spool.submit(PLAIN)
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:  # pytest must not see the child's end
            with contextlib.suppress(BaseException):
                os.write(tell, spool.submit(PLAIN).encode())
            os._exit(0)
        os.close(tell)
        from_parent = [spool.submit(PLAIN) for _ in range(20)]
        from_child = os.read(told, 100).decode()
        os.close(told)
        os.waitpid(child, 0)
    with sqlite3.connect(queue) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        stored = {entry_id for (entry_id,) in connection.execute("SELECT entry_id FROM spoold_message")}
    connection.close()
    assert stored == {before, from_child, *from_parent}


def test_a_forked_child_still_has_its_lock_on_the_queue_when_the_parent_has_closed_it(queue: Path) -> None:
    spool = Spool(queue)
    go, signal = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            first = spool.submit(PLAIN)
            os.write(tell, b"1")
            os.read(go, 1)
            os.write(tell, f"{first} {spool.submit(PLAIN)}".encode())
        os._exit(0)
    os.read(told, 1)
    spool.submit(PLAIN)
    spool.close()  # the last one to close removes the log: this must not be the last
    os.write(signal, b"1")
    from_child = os.read(told, 100).decode().split()
    os.waitpid(child, 0)
    for descriptor in (go, signal, told, tell):
        os.close(descriptor)
    with Spool(queue) as after:
        assert set(from_child) <= {m.entry_id for m in after.list()}
        assert len(after.list()) == 3


# -- closing -----------------------------------------------------------------------------------------------------------


async def test_a_closed_spool_says_so(spool: Both) -> None:
    await spool.submit(PLAIN)
    await spool.close()
    await spool.close()
    with pytest.raises(UsageError, match="was closed"):
        await spool.submit(PLAIN)


# -- spoolers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["short path", "path longer than a socket's address"])
def deep(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path if request.param else tmp_path / ("d" * 100)
    folder.mkdir(exist_ok=True)
    create(QueuePath.of(folder / "queue.db"))
    return folder / "queue.db"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_spoolers_are_rung_after_each_commit(deep: Path, kind: type[Spool | AsyncSpool]) -> None:
    hands = [Hand(deep, mark) for mark in ("a" * 12, "b" * 12)]
    bells = [hand.bell() for hand in hands]
    async with Both(kind, deep) as spool:
        entry_id = await spool.submit(PLAIN)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: spool.hold(entry_id), lambda: spool.release(all=True), spool.flush, lambda: spool.abort(entry_id),
        ]  # fmt: skip
        for call in calls:
            assert [bell.recv(16) for bell in bells] == [b"\n", b"\n"]
            await call()
        assert [bell.recv(16) for bell in bells] == [b"\n", b"\n"]
        await spool.get(entry_id)
        with pytest.raises(BlockingIOError):
            bells[0].recv(16)
    for hand, bell in zip(hands, bells, strict=True):
        hand.close()
        bell.close()


async def test_a_spooler_that_does_not_hear_hinders_nobody(spool: Both, queue: Path) -> None:
    deaf, gone = Hand(queue, "a" * 12), Hand(queue, "b" * 12)
    bell = deaf.bell()
    await spool.submit_many([Message(PLAIN, key="7"), Message(PLAIN, key="7")])
    for _ in range(100):  # more than a socket's queue holds
        await spool.submit(PLAIN)
    assert len(await spool.list()) == 101
    bell.close()
    deaf.close()
    gone.close()
