"""An index whose vectors were coded by tasks on Ray is the one that a single process builds."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from microtome.atlas import index_codes
from microtome.atlas.atlas import Atlas
from microtome.atlas.index_building import refresh_index
from microtome.atlas.index_codes import CodePlan, Codes
from microtome.atlas.index_coding import CodingWork, code_here
from microtome.atlas.vector_index import VectorIndex, open_index
from microtome.engine.index_coding import CodingOnRay
from microtome.errors import AtlasError, ClusterFailed
from support.clustered_atlas import Clusters, add_tiles, make_atlas
from support.object_store import ObjectStore

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

DIM, ROWS = 32, (300, 700, 200, 400)
CLUSTERS = Clusters(DIM, clusters=20)
PLAN = CodePlan(8, probes=8)
TWO_TASKS = CodingOnRay(workers=2, task_rows=500)


def filled(uri: str) -> Atlas:
    """An atlas of so many tiles in each fragment."""
    atlas = make_atlas(uri, DIM)
    for number, rows in enumerate(ROWS):
        add_tiles(atlas, CLUSTERS.drawn(rows, seed=number), first=number * 10_000)
    return atlas


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a task has; more of them round a few last bits otherwise."""
    monkeypatch.setattr(index_codes, "THREADS", 1)


@pytest.fixture
def atlas(s3: ObjectStore) -> Atlas:
    """In a bucket, which the tasks read from."""
    return filled(f"{s3.bucket()}/atlas")


def built(atlas: Atlas, code=code_here) -> VectorIndex:
    (model_id,) = atlas.models
    refresh_index(atlas, model_id, least_rows=100, plan=lambda _: PLAN, code=code)
    index = open_index(atlas, model_id)
    assert index is not None
    return index


def assert_the_same(found: VectorIndex, expected: VectorIndex) -> None:
    ours, theirs = found.codes.part(), expected.codes.part()
    for name in ("sizes", "row_ids", "codes"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    asked = CLUSTERS.drawn(20, seed=9)
    answers = [index.codes.search(asked, 10, 4) for index in (found, expected)]
    assert np.array_equal(*answers)


def test_it_is_the_index_of_a_single_process(atlas: Atlas, tmp_path: Path):
    alone = filled(str(tmp_path / "alone"))
    assert_the_same(built(atlas, TWO_TASKS), built(alone))
    for number in (5, 6, 7):
        for one in (atlas, alone):
            add_tiles(one, CLUSTERS.drawn(400, seed=number), first=number * 10_000)
    found, expected = built(atlas, TWO_TASKS), built(alone)
    assert found.card.trained_rows == sum(ROWS)  # so it was extended
    assert found.card.rows == sum(ROWS) + 1200
    assert_the_same(found, expected)


def test_a_part_whose_process_died_is_coded_by_another(atlas: Atlas, tmp_path: Path):
    marker = tmp_path / "died"

    def die_once() -> None:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    codes, expected = centroids(), centroids()
    work = work_of(atlas)
    assert TWO_TASKS(codes, doing_first(die_once, work)) == code_here(expected, work) == sum(ROWS)
    assert marker.exists()
    assert codes.row_ids.tolist() == expected.row_ids.tolist()


def test_a_part_that_a_store_cut_short_is_coded_again(atlas: Atlas, tmp_path: Path):
    marker = tmp_path / "stumbled"

    def stumble_once() -> None:
        if not marker.exists():
            marker.touch()
            raise AtlasError("the store can't be reached")

    assert TWO_TASKS(centroids(), doing_first(stumble_once, work_of(atlas))) == sum(ROWS)
    assert marker.exists()


def test_an_error_that_nobody_foresaw_is_named_without_its_words(atlas: Atlas):
    def stumble() -> None:
        raise ValueError("of /a/path")

    with pytest.raises(ClusterFailed) as caught:
        TWO_TASKS(centroids(), doing_first(stumble, work_of(atlas)))
    assert caught.value.message == (
        "Ray could not go on: a task brought up a ValueError that nobody foresaw"
    )


def test_an_error_of_a_part_is_the_error(atlas: Atlas):
    def refuse() -> None:
        raise AtlasError("the table tiles can't be read", remedy="Wait.")

    with pytest.raises(AtlasError, match="can't be read") as caught:
        TWO_TASKS(centroids(), doing_first(refuse, work_of(atlas)))
    assert caught.value.remedy == "Wait."


def centroids() -> Codes:
    """Codes of nothing yet."""
    return Codes.trained(PLAN, CLUSTERS.drawn(ROWS[0]))


def work_of(atlas: Atlas) -> CodingWork:
    (model_id,) = atlas.models
    return CodingWork.of(atlas, atlas.tiles, model_id)


def doing_first(act: Callable[[], None], work: CodingWork) -> CodingWork:
    """The same work, of which each part acts before it is read."""

    class Acting(CodingWork):  # local, so that it travels to workers that know no tests
        def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
            act()
            return CodingWork.blocks(self)

    return Acting(**{field.name: getattr(work, field.name) for field in fields(work)})
