from __future__ import annotations

import math
import time
from threading import Event, Thread

import pytest

from microtome.errors import DeadlinePassed
from microtome.search import patience
from microtome.search.patience import Patience


def test_nobody_loses_patience_who_did_not_say_so() -> None:
    patience.check()
    with patience.shown(Patience()):
        patience.check()


def test_work_ends_after_its_time() -> None:
    with patience.shown(Patience(until_s=time.monotonic() + 60)):
        patience.check()
    with patience.shown(Patience(until_s=time.monotonic() - 1)), pytest.raises(DeadlinePassed):
        patience.check()


def test_work_ends_once_nobody_waits() -> None:
    gone = Event()
    with patience.shown(Patience(time.monotonic() + 60, gone)):
        patience.check()
        gone.set()
        with pytest.raises(DeadlinePassed):
            patience.check()


def test_patience_is_over_with_the_work_it_was_shown_for() -> None:
    with pytest.raises(DeadlinePassed), patience.shown(Patience(until_s=0)):
        patience.check()
    patience.check()


def test_other_threads_have_their_own() -> None:
    done = Event()

    def work() -> None:
        patience.check()
        done.set()

    with patience.shown(Patience(until_s=0)):
        thread = Thread(target=work)
        thread.start()
        thread.join()
    assert done.is_set()


def test_what_is_left_grows_less() -> None:
    assert patience.left_s() == math.inf
    with patience.shown(Patience(until_s=time.monotonic() + 60)):
        assert 30 < patience.left_s() <= 60
    with patience.shown(Patience(until_s=0)), pytest.raises(DeadlinePassed):
        patience.left_s()
