"""Coding vectors for the search index on a cluster: tasks code, the driver holds the index.

A task gets the centroids, reads a few fragments and gives their codes back: at 512 values an eighth
of what it read. The driver adds parts in the order of their fragments, so that the index is the
same as one that was made in one process: byte for byte where that has one thread, as a task has,
else but for how the last bit of a few factors is rounded. Ray does a task anew whose process or
machine was lost, three times, and itself does once more what a store's stumble cut short. Only the
part that comes next is fetched from where it was made: all that wait would not fit the driver.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from microtome.atlas.index_codes import CodedPart, Codes
from microtome.atlas.index_coding import CodingWork, code_here
from microtome.config import check_whole, storage_place
from microtome.console import counted
from microtome.engine.cluster import cluster, cluster_failed, nodes
from microtome.errors import AtlasDamaged, MicrotomeError

TASK_ROWS = 250_000  # a quarter of a gigabyte to read, at 512 values; half a minute of a core
AHEAD = 2  # parts per worker that are being made, or wait for one before them


@dataclass(frozen=True, slots=True)
class CodingOnRay:
    """Codes vectors on the cluster that `engine.cluster` finds or starts; an atlas's `Coder`.

    Attributes:
        workers: tasks at one time, each with one core; 0 for as many as there are cores.
        task_rows: rows per task, at least; a fragment is never divided.
    """

    workers: int = 0
    task_rows: int = TASK_ROWS

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, least=0)
        check_whole("task_rows", self.task_rows, least=1)

    def __call__(self, codes: Codes, work: CodingWork) -> int:
        """Add the vectors of the work to the codes; what is one task's worth is coded here.

        Raises:
            AtlasError: the table can't be read.
            ClusterFailed: a task's process died each time, or the cluster is gone.
        """
        works = work.split(self.task_rows)
        with counted("vectors coded", work.rows) as advance:
            if len(works) <= 1:
                return code_here(codes, work, advance)
            added = 0
            with cluster():
                workers = self.workers or sum(node.cpus for node in nodes())
                with closing(_parts(codes.bare(), works, workers)) as parts:
                    for part in parts:
                        codes.take_in(part)
                        added += len(part.row_ids)
                        advance(len(part.row_ids))
            return added


def _parts(
    bare: NDArray[np.uint8], works: Sequence[CodingWork], workers: int
) -> Generator[CodedPart]:
    """What becomes of each work, in order; a bounded number is made before it is asked for."""
    environment = {"OMP_NUM_THREADS": "1", **storage_place()}
    task = ray.remote(_coded).options(num_cpus=1, runtime_env={"env_vars": environment})
    shared = ray.put(bare)
    running: deque[Any] = deque()
    try:
        for work in works:
            while len(at_work := _unfinished(running)) >= workers:
                ray.wait(at_work, num_returns=1, fetch_local=False)
            while running and (running[0] not in at_work or len(running) == AHEAD * workers):
                yield _result(running.popleft())
            running.append(task.remote(shared, work))
        while running:
            yield _result(running.popleft())
    finally:
        for part in running:
            ray.cancel(part)


def _unfinished(parts: Iterable[Any]) -> list[Any]:
    listed = list(parts)
    if listed:
        _, listed = ray.wait(listed, num_returns=len(listed), timeout=0, fetch_local=False)
    return listed


def _result(part: Any) -> CodedPart:
    try:
        result: CodedPart | MicrotomeError = ray.get(part)
    except RayError as error:
        raise cluster_failed(error) from error
    if isinstance(result, MicrotomeError):
        raise result
    return result


def _coded(bare: NDArray[np.uint8], work: CodingWork) -> CodedPart | MicrotomeError:
    """Code one part, in a process of its own; an error that comes twice travels as data."""
    for last in (False, True):
        codes = Codes.of_bare(bare)
        try:
            code_here(codes, work)
        except MicrotomeError as error:
            if last or isinstance(error, AtlasDamaged):
                return error
        else:
            return codes.part()
    raise AssertionError("the last attempt returns")
