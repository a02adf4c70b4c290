"""Rounds that are fair on a busy machine: all readers in turn on the same regions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True)
class Seconds:
    """What one region took, on average over a round; and cores that other processes kept busy."""

    cpu: float
    wall: float
    others: float


Rounds = list[Seconds]
Work = Callable[[Sequence[Any]], int]
"""Takes the items of one round, and says how many pieces of work that was."""


def alternated(works: Mapping[str, Work], parts: Sequence[Sequence[Any]]) -> dict[str, Rounds]:
    """Give each part to every work before the next; who begins moves on by one a round."""
    spent: dict[str, Rounds] = {name: [] for name in works}
    names = list(works)
    for number, part in enumerate(parts):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            spent[name].append(_seconds(works[name], part))
    return spent


def in_threads(read: Callable[[Any], Any], threads: int) -> Work:
    """A work that reads region by region, in so many threads."""

    def work(regions: Sequence[Any]) -> int:
        if threads == 1:
            for region in regions:
                read(region)
        else:
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(read, regions):
                    pass
        return len(regions)

    return work


def per_cpu_second(rounds: Rounds) -> float:
    return statistics.median(1 / one.cpu for one in rounds)


def per_second(rounds: Rounds) -> float:
    return statistics.median(1 / one.wall for one in rounds)


def cpu_ratio(above: Rounds, below: Rounds) -> float:
    """How many times the CPU time of `below` does `above` take, round by round?"""
    return statistics.median(a.cpu / b.cpu for a, b in zip(above, below, strict=True))


def wall_ratio(above: Rounds, below: Rounds) -> float:
    return statistics.median(a.wall / b.wall for a, b in zip(above, below, strict=True))


def cores_taken(spent: Mapping[str, Rounds]) -> float:
    """Cores that other processes kept busy meanwhile."""
    return statistics.median(one.others for rounds in spent.values() for one in rounds)


def _seconds(work: Work, part: Sequence[Any]) -> Seconds:
    busy, cpu, wall = _busy_s(), time.process_time(), time.perf_counter()
    count = work(part)
    busy, cpu, wall = _busy_s() - busy, time.process_time() - cpu, time.perf_counter() - wall
    return Seconds(cpu / count, wall / count, max(0.0, busy - cpu) / wall)


def _busy_s() -> float:
    """Seconds that all cores together have worked."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)
