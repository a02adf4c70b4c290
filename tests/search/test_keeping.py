from __future__ import annotations

import time
from threading import Event, Thread

import pytest

from microtome.errors import DeadlinePassed
from microtome.search import patience
from microtome.search.keeping import ENTRY_BYTES, Kept
from microtome.search.patience import Patience


@pytest.fixture
def kept():
    return Kept(100 + 2 * ENTRY_BYTES, len)


def test_what_is_kept_is_made_once(kept):
    made = kept.of((1, "a"), lambda: b"x")
    assert kept.of((1, "a"), lambda: pytest.fail("made again")) is made


def test_other_names_are_others(kept):
    found = [kept.of(name, name.__repr__) for name in ((1, "a"), ("1", "a"), (1, "a", None))]
    assert len(set(found)) == 3


def test_what_was_used_last_stays_within_the_bytes(kept):
    for name in "abc":
        kept.of((name,), lambda: b"x" * 40)
        kept.of(("a",), lambda: pytest.fail("a was used last"))
    remade = []
    kept.of(("c",), lambda: pytest.fail("c was used after b"))
    kept.of(("b",), lambda: remade.append("b") or b"x" * 40)
    assert remade == ["b"]


def test_one_larger_than_all_that_may_be_kept_is_kept_alone(kept):
    kept.of(("large",), lambda: b"x" * 3 * ENTRY_BYTES)
    kept.of(("large",), lambda: pytest.fail("made again"))


def test_of_what_has_no_size_there_is_not_more_and_more():
    kept = Kept(10 * ENTRY_BYTES, lambda _: 0)
    made = [kept.of((number,), lambda number=number: number) for number in range(11)]
    assert kept.of((10,), lambda: pytest.fail("it was used last")) == made[10]
    assert kept.of((0,), lambda: "anew") == "anew"


def test_what_fails_is_made_anew(kept):
    with pytest.raises(ZeroDivisionError):
        kept.of(("a",), lambda: 1 / 0)
    assert kept.of(("a",), lambda: b"x") == b"x"


def being_made(kept) -> tuple[Thread, Event]:
    """A thread that makes what is called `slow` until the event is set."""
    begun, end = Event(), Event()

    def make() -> bytes:
        begun.set()
        end.wait(30)
        return b"slow"

    thread = Thread(target=lambda: kept.of(("slow",), make))
    thread.start()
    begun.wait(30)
    return thread, end


def test_others_are_made_while_one_takes_its_time(kept):
    thread, end = being_made(kept)
    assert kept.of(("quick",), lambda: b"quick") == b"quick"
    assert thread.is_alive()
    end.set()
    thread.join()


def test_who_asks_for_what_another_makes_gets_it(kept):
    thread, end = being_made(kept)
    end.set()
    assert kept.of(("slow",), lambda: pytest.fail("made twice")) == b"slow"
    thread.join()


def test_who_waits_for_what_another_makes_may_give_up(kept):
    thread, end = being_made(kept)
    with patience.shown(Patience(until_s=time.monotonic() + 0.1)), pytest.raises(DeadlinePassed):
        kept.of(("slow",), lambda: pytest.fail("made twice"))
    end.set()
    thread.join()
