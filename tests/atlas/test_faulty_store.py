"""A store on a bad day: requests that fail, lines that are cut, answers that are lost."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from dataclasses import replace

import pytest

from microtome.atlas.atlas import Atlas
from microtome.atlas.recovery import Recovered, recover
from microtome.atlas.schema import WORK
from microtome.atlas.tables import open_table
from microtome.atlas.writer import open_writer
from support.faulty_store import DENIED, SLOW_DOWN, FaultyStore, Passed
from support.made_atlas import MadeAtlas, content_id, ref_of
from support.object_store import ObjectStore
from support.paused_writer import row

pytestmark = pytest.mark.timeout(120)


class BadDay:
    """A fault for one request in ten, drawn by lot."""

    def __init__(self, seed: int) -> None:
        self._lots = random.Random(seed)
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()

    def __call__(self, request: Passed) -> bool:
        with self._lock:
            spoilt = self._lots.random() < 0.1
            kind = self._lots.choice(["refuse", "hang up", "cut", "lose"])
            if not spoilt:
                return False
            self.done[kind] += 1
        if kind == "lose":
            return request.lose_answer()
        if kind == "cut":
            return request.forward(share=0.5)
        return request.hang_up() if kind == "hang up" else request.refuse(503, SLOW_DOWN)


@pytest.mark.parametrize("seed", range(2))
def test_waves_through_a_store_that_fails_often_end_exact(
    s3: ObjectStore, proxy: FaultyStore, seed: int
):
    proxy.fault = day = BadDay(seed)
    made = MadeAtlas(f"{s3.bucket()}/atlas")
    committer = made.committer
    for wave in range(2):
        committer.commit(
            [
                made.done(f"new {wave}", tiles=4),
                made.done("changes", f"{wave}", tiles=wave + 1),
                made.failed(f"broken {wave}"),
                replace(made.empty(f"blank {wave}"), ref=ref_of(f"blank {wave}")),
            ]
        )
    proxy.fault = lambda _: False

    assert recover(made.writer, made.atlas) == Recovered()
    assert made.state() == {
        "changes": (content_id("1"), 2, "done", 2),
        **{f"new {wave}": (content_id(f"new {wave}"), 4, "done", 4) for wave in range(2)},
        **{f"broken {wave}": ("", 0, "failed", 0) for wave in range(2)},
        **{f"blank {wave}": (content_id(f"blank {wave}"), 0, "empty", 0) for wave in range(2)},
    }
    (run,) = Atlas.open(made.uri).runs.to_table().to_pylist()
    assert run["run_id"] == made.run_id
    assert day.done.keys() == {"refuse", "hang up", "cut", "lose"}
    made.release()


def test_a_commit_whose_outcome_nobody_can_tell_is_there_once(s3: ObjectStore, proxy: FaultyStore):
    """The answer to the manifest is lost, and Lance may not look whether it arrived."""
    uri = s3.bucket()
    with open_writer(uri, "test") as writer:
        writer.create("work", WORK)
        lost: list[Passed] = []
        looks = itertools.count()

        def fault(request: Passed) -> bool:
            is_manifest = "_versions/" in request.path and "prefix" not in request.path
            if is_manifest and request.is_write and not lost:
                lost.append(request)
                return request.lose_answer()
            is_look = bool(lost) and request.command == "HEAD"
            return is_look and next(looks) < 3 and request.refuse(403, DENIED)

        proxy.fault = fault
        writer.append("work", row("a"))
        proxy.fault = lambda _: False
        assert lost
    work = open_table(uri, "work")
    assert work is not None
    assert work.to_table()["slide_id"].to_pylist() == ["a"]
    assert work.version == 3, "the fence made certain that nothing could still arrive"
