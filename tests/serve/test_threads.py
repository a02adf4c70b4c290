"""Work in threads ends when nobody waits for it, and is refused where too much waits."""

from __future__ import annotations

import asyncio
import time
from threading import Event

import pytest

from microtome.errors import DeadlinePassed, Overloaded, SettingError
from microtome.search import patience
from microtome_serve.threads import Places, Threads, all_or_none, in_s

pytestmark = pytest.mark.anyio

SOON_S = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def work_until_noticed(begun: Event, ended: Event) -> None:
    begun.set()
    try:
        while True:
            patience.check()
            time.sleep(0.005)
    finally:
        ended.set()


async def test_work_that_takes_too_long_ends():
    with pytest.raises(DeadlinePassed):
        await Threads("t", 1).run(lambda: work_until_noticed(Event(), Event()), in_s(0.05))


async def test_work_that_nobody_waits_for_ends():
    begun, ended, threads = Event(), Event(), Threads("t", 1)
    task = asyncio.create_task(threads.run(lambda: work_until_noticed(begun, ended)))
    assert await asyncio.to_thread(begun.wait, SOON_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await asyncio.to_thread(ended.wait, SOON_S)
    assert await threads.run(lambda: "free again") == "free again"


async def test_work_that_never_began_in_time_does_not_begin():
    threads, free, begun = Threads("t", 1), Event(), Event()
    first = asyncio.create_task(threads.run(lambda: free.wait(SOON_S)))
    second = asyncio.create_task(threads.run(begun.set, in_s(0.02)))
    await asyncio.sleep(0.05)
    free.set()

    with pytest.raises(DeadlinePassed):
        await second
    assert await first
    assert not begun.is_set()


def test_who_finds_no_place_is_refused_and_a_place_is_given_back():
    places = Places(1)
    with places.taken(), pytest.raises(Overloaded), places.taken():
        pass
    with places.taken():
        pass


async def test_the_first_error_ends_the_others_and_is_told():
    begun, ended, threads = Event(), Event(), Threads("t", 2)

    async def wrong() -> None:
        assert await asyncio.to_thread(begun.wait, SOON_S)
        raise SettingError("wrong")

    with pytest.raises(SettingError, match="wrong"):
        await all_or_none([threads.run(lambda: work_until_noticed(begun, ended)), wrong()])

    assert await asyncio.to_thread(ended.wait, SOON_S)


async def test_what_all_come_to_is_told_in_their_order():
    async def later(value: int) -> int:
        await asyncio.sleep(0.01 * (3 - value))
        return value

    assert await all_or_none(map(later, range(3))) == [0, 1, 2]
