"""What is asked often is asked of the graph once a while, by one for all."""

from __future__ import annotations

import asyncio

import pytest

from microtome.errors import Overloaded
from microtome_serve.kept import Kept

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Counted:
    """Answers how often it was asked; the first `wrong` times with an error."""

    def __init__(self, wrong: int = 0) -> None:
        self.times = 0
        self._wrong = wrong

    async def __call__(self) -> int:
        self.times += 1
        await asyncio.sleep(0.01)
        if self.times <= self._wrong:
            raise Overloaded("too much")
        return self.times


async def test_all_who_ask_at_once_have_one_answer():
    kept = Kept(Counted(), kept_s=60)

    assert await asyncio.gather(*(kept.answer() for _ in range(9))) == [1] * 9


async def test_an_answer_is_kept_for_its_time_only():
    kept = Kept(Counted(), kept_s=0.05)
    before = await kept.answer()
    await asyncio.sleep(0.06)

    assert (before, await kept.answer()) == (1, 2)


async def test_an_error_is_kept_as_an_answer_is():
    ask = Counted(wrong=1)
    kept = Kept(ask, kept_s=60)
    for _ in range(3):
        with pytest.raises(Overloaded):
            await kept.answer()

    assert ask.times == 1


async def test_an_error_is_kept_for_its_time_only():
    kept = Kept(Counted(wrong=1), kept_s=0.01)
    with pytest.raises(Overloaded):
        await kept.answer()
    await asyncio.sleep(0.02)

    assert await kept.answer() == 2


async def test_who_leaves_while_asking_leaves_it_to_the_next():
    kept = Kept(Counted(), kept_s=60)
    first = asyncio.create_task(kept.answer())
    await asyncio.sleep(0)
    first.cancel()

    assert await kept.answer() == 2
