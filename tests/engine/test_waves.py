"""Grouping outcomes for commits, and noticing slides whose process died."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from microtome.atlas.outcome import SlideOutcome
from microtome.engine.waves import waves, with_lost
from microtome.errors import AtlasWriteFailed
from microtome.slides.slide import SlideRef


def failed(name: str) -> SlideOutcome:
    return SlideOutcome(SlideRef(name, f"{name}.svs"), "failed", cause="unreadable", message="x")


@pytest.mark.parametrize(
    ("outcomes", "slides", "seconds", "sizes"),
    [
        (0, 4, 60.0, []),
        (3, 4, 60.0, [3]),
        (4, 4, 60.0, [4]),
        (9, 4, 60.0, [4, 4, 1]),
        (3, 4, 1e-9, [1, 1, 1]),  # time is always up
    ],
)
def test_a_wave_ends_by_number_or_by_time(
    outcomes: int, slides: int, seconds: float, sizes: list[int]
) -> None:
    found = waves([failed(str(n)) for n in range(outcomes)], slides, seconds)

    assert [len(wave) for wave in found] == sizes


def test_a_slide_that_takes_long_holds_nothing_back() -> None:
    committed = threading.Event()

    def slow() -> Iterator[SlideOutcome]:
        yield failed("a")
        assert committed.wait(30)
        yield failed("b")

    found = []
    for wave in waves(slow(), slides=10, seconds=0.1):
        found.append([outcome.ref.slide_id for outcome in wave])
        committed.set()

    assert found == [["a"], ["b"]]


def test_an_error_goes_up_and_ends_the_waiting() -> None:
    def failing() -> Iterator[SlideOutcome]:
        yield failed("a")
        raise AtlasWriteFailed("the disk is full")

    with pytest.raises(AtlasWriteFailed):
        list(waves(failing(), slides=10, seconds=60.0))


def test_nothing_more_is_asked_for_once_the_waves_are_unwanted() -> None:
    asked = []

    def endless() -> Iterator[SlideOutcome]:
        for number in itertools.count():
            asked.append(number)
            yield failed(str(number))
            time.sleep(0.01)

    taken = waves(endless(), slides=1, seconds=60.0)
    next(taken)
    taken.close()  # as a commit that fails does

    def falls_silent() -> bool:
        before = len(asked)
        time.sleep(0.1)
        return len(asked) == before

    assert any(falls_silent() for _ in range(50))


def test_an_interrupt_still_yields_what_has_come() -> None:
    def interrupted() -> Iterator[SlideOutcome]:
        yield failed("a")
        yield failed("b")
        raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(waves(interrupted(), slides=10, seconds=60.0))

    assert [[outcome.ref.slide_id for outcome in wave] for wave in seen] == [["a", "b"]]


def test_a_slide_without_an_outcome_is_lost_and_says_so() -> None:
    wanted = [SlideRef(name, f"{name}.svs") for name in ("a", "b", "c")]

    found = {o.ref.slide_id: o.cause for o in with_lost([failed("a"), failed("c")], wanted)}

    assert found == {"a": "unreadable", "c": "unreadable", "b": "worker-lost"}
