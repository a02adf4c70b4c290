"""Grouping outcomes for commits, and noticing slides whose process died."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from microtome.atlas.outcome import SlideOutcome
from microtome.engine.index import waves, with_lost
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
