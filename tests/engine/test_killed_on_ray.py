"""`microtome index` on a real Ray of several machines, of which anything may be killed at any time.

A machine is a raylet with its workers. MICROTOME_KILLS_ON_RAY sets how many moments are tried.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from microtome.atlas.verify import verify
from microtome.config import IndexSettings
from support.coloured_atlas import COLOURS, GRID, Quilt
from support.killing import start
from support.machines import index_alone, raylet_of, running_machines, start_index, workers_of
from support.same_atlas import rows_of

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("MICROTOME_KILLS_ON_RAY", "5"))
LONG = "MICROTOME_KILLS_ON_RAY" in os.environ
DRIVER_KILLS, WORKER_KILLS = KILLS - KILLS * 2 // 5, KILLS * 2 // 5
SLIDES, SIDE_TILES = 12, 3
LIMIT_S = 240


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, chance = tmp_path_factory.mktemp("archive"), random.Random(0)
    names, side = list(COLOURS), range(SIDE_TILES)
    for number in range(SLIDES):
        patches = tuple(tuple(chance.choice(names) for _ in side) for _ in side)
        Quilt(f"slide{number:02}", patches).write(folder)
    return folder


@pytest.fixture(scope="module")
def machines() -> Iterator[Cluster]:
    with running_machines(2) as machines:
        yield machines


@pytest.fixture(scope="module")
def uninterrupted(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    atlas = tmp_path_factory.mktemp("uninterrupted") / "atlas"
    finish(start(index_alone, settings_for(archive, atlas)))
    rows = rows_of(str(atlas))
    assert len(rows["tiles"]) == SLIDES * SIDE_TILES**2
    return rows


def settings_for(archive: Path, atlas: Path) -> IndexSettings:
    return IndexSettings(
        (str(archive),),
        str(atlas),
        grid=GRID,
        min_tissue=0.0,
        batch_size=1,
        workers=2,
        cpus_per_worker=1,
        wave_slides=2,
    )


def finish(job: BaseProcess) -> None:
    job.join(LIMIT_S)
    assert job.exitcode == 0


def wait_for_more(atlas: Path, job: BaseProcess) -> None:
    """Return once another fragment was written, or the job has ended."""
    already, until_s = fragments(atlas), time.monotonic() + LIMIT_S
    while job.is_alive() and fragments(atlas) == already:
        assert time.monotonic() < until_s
        time.sleep(0.02)


def fragments(atlas: Path) -> int:
    """How many there are, committed or not."""
    return len(list((atlas / "tiles.lance" / "data").glob("*.lance")))


def same(atlas: Path, uninterrupted: dict[str, Any]) -> bool:
    return rows_of(str(atlas)) == uninterrupted and verify(str(atlas), vectors=True).holds


def test_a_killed_job_is_gone_on_with(
    archive: Path,
    uninterrupted: dict[str, Any],
    machines: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chance = random.Random(20261122)
    kills, number, begun_s = 0, 0, time.monotonic()
    while kills < DRIVER_KILLS:
        atlas = tmp_path / f"atlas{number}"
        settings = settings_for(archive, atlas)
        for _ in range(min(3, DRIVER_KILLS - kills)):
            job = start_index(settings, machines)
            wait_for_more(atlas, job)
            job.join(chance.uniform(0, 0.5))
            kills += job.is_alive()
            job.kill()
            job.join()
        finish(start_index(settings, machines))
        assert same(atlas, uninterrupted)
        number += 1
    say(capsys, f"{kills} kills of the driver", begun_s)


def test_killed_workers_are_made_up_for_within_the_job(
    archive: Path,
    uninterrupted: dict[str, Any],
    machines: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chance = random.Random(20261122)
    kills, number, begun_s = 0, 0, time.monotonic()
    while kills < WORKER_KILLS:
        atlas = tmp_path / f"atlas{number}"
        job = start_index(settings_for(archive, atlas), machines)
        for _ in range(min(2, WORKER_KILLS - kills)):
            wait_for_more(atlas, job)
            job.join(chance.uniform(0, 0.3))
            workers = [one for machine in machines.worker_nodes for one in workers_of(machine)]
            if job.is_alive() and workers:
                with suppress(psutil.NoSuchProcess):
                    chance.choice(workers).kill()
                    kills += 1
        finish(job)
        assert same(atlas, uninterrupted)
        number += 1
    say(capsys, f"{kills} kills of workers", begun_s)


def test_a_machine_that_is_lost_and_replaced_costs_nothing_but_time(
    archive: Path, uninterrupted: dict[str, Any], machines: Cluster, tmp_path: Path
) -> None:
    number, at_work = 0, []
    while not at_work:  # a job may be quicker than this process, which shares its cores
        number, atlas = number + 1, tmp_path / f"atlas{number}"
        job = start_index(settings_for(archive, atlas), machines)
        wait_for_more(atlas, job)
        at_work = [machine for machine in machines.worker_nodes if workers_of(machine)]
    lost = at_work[0]
    raylet_of(lost).kill()
    machines.remove_node(lost, allow_graceful=False)  # what a raylet leaves when its machine lives
    machines.add_node(num_cpus=1)

    finish(job)
    assert same(atlas, uninterrupted)


def say(capsys: pytest.CaptureFixture[str], what: str, begun_s: float) -> None:
    """In the long form, what was done."""
    if LONG:
        with capsys.disabled():
            print(f"\n{what}, mismatches 0, {time.monotonic() - begun_s:.0f} s")
