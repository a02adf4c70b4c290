"""A request that ends the processes which work on it is asked of few, and of no more after that."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError

from microtome.errors import ProcessLost
from microtome_serve.calling import TRIES, Calls
from microtome_serve.refusals import problem_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Deadly:
    """A deployment, and its answer: the first `deaths` processes die."""

    def __init__(self, deaths: int) -> None:
        self.asked, self.deaths = 0, deaths
        self.look = self

    def remote(self) -> Deadly:
        self.asked += 1
        return self

    def result(self, timeout_s: float) -> str:
        if self.asked <= self.deaths:
            raise ActorDiedError
        return "an answer"

    def __await__(self):
        yield from ()
        return self.result(0)


async def test_what_died_by_chance_is_asked_of_another_process():
    assert await Calls(Deadly(TRIES - 1)).look.remote() == "an answer"
    assert Calls(Deadly(TRIES - 1)).look.result(timeout_s=1) == "an answer"


async def test_what_ends_every_process_is_given_up_and_no_client_asks_it_again():
    deadly = Deadly(99)
    with pytest.raises(ProcessLost) as given_up:
        await Calls(deadly).look.remote()
    with pytest.raises(ProcessLost):
        Calls(deadly).look.result(timeout_s=1)

    assert deadly.asked == 2 * TRIES
    problem = problem_of(given_up.value)
    assert problem.status == 500
    assert "Retry-After" not in problem.headers
