"""What is counted of a running server, and one process's counts; `meter` puts them together.

No label holds an id, a token's name, a path or anything else that a client sent.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        name: in Prometheus, without `_total`.
        doc: what it says.
        kind: of metric; a `sum` is a gauge that processes share, a `most` one whose largest counts.
        labels: names of its labels.
        buckets: upper ends of a histogram's buckets, without +Inf.
    """

    name: str
    doc: str
    kind: Literal["counter", "histogram", "sum", "most"]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


REQUESTS: Final = Family(
    "microtome_requests",
    "Requests answered; status 499 where the client went away.",
    "counter",
    ("route", "method", "status"),
)
REFUSALS: Final = Family(
    "microtome_refusals",
    "Requests answered with a problem, by cause; overloaded where a queue was full.",
    "counter",
    ("cause",),
)
SECONDS: Final = Family(
    "microtome_request_seconds",
    "From a request's first byte to its answer's last.",
    "histogram",
    ("route",),
    (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
IN_FLIGHT: Final = Family("microtome_requests_in_flight", "Requests under way.", "sum")
SEARCHES: Final = Family(
    "microtome_searches",
    "Questions answered, by level, by whether an index gave candidates, by model; shadows too.",
    "counter",
    ("level", "path", "model"),
)
BATCH_TILES: Final = Family(
    "microtome_embed_batch_tiles",
    "Tiles that went through the model together.",
    "histogram",
    (),
    (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024),
)
ATLAS_VERSION: Final = Family(
    "microtome_atlas_version", "Newest version of the tiles that is answered from.", "most"
)

Labels = tuple[str, ...]
Key = tuple[Family, Labels]


@dataclass(slots=True)
class Distribution:
    """Values seen: how many in each bucket (the last has no end), and their sum."""

    counts: list[int]
    total: float = 0.0

    @classmethod
    def empty(cls, family: Family) -> Distribution:
        """Nothing seen."""
        return cls([0] * (len(family.buckets) + 1))

    def add(self, other: Distribution) -> None:
        """Take in what another has seen."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


@dataclass(slots=True)
class Readings:
    """What a process has counted.

    Attributes:
        counters: by family and labels.
        distributions: the same.
        gauges: the same; as they are, not what is new.
    """

    counters: dict[Key, float] = field(default_factory=dict)
    distributions: dict[Key, Distribution] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)

    def add(self, new: Readings) -> None:
        """Take in what is new of another."""
        for key, value in new.counters.items():
            self.counters[key] = self.counters.get(key, 0.0) + value
        for key, seen in new.distributions.items():
            self.distributions.setdefault(key, Distribution.empty(key[0])).add(seen)


class Tally:
    """One process's counts. Safe to call from several threads."""

    def __init__(self) -> None:
        self._new = Readings()
        self._lock = threading.Lock()

    def count(self, family: Family, *labels: str) -> None:
        """One more."""
        with self._lock:
            key = (family, labels)
            self._new.counters[key] = self._new.counters.get(key, 0.0) + 1

    def observe(self, family: Family, value: float, *labels: str) -> None:
        """A value of a histogram."""
        with self._lock:
            seen = self._new.distributions.setdefault((family, labels), Distribution.empty(family))
            seen.counts[bisect_left(family.buckets, value)] += 1
            seen.total += value

    def set(self, family: Family, value: float, *labels: str) -> None:
        """What a gauge shows now."""
        with self._lock:
            self._new.gauges[family, labels] = value

    def taken(self) -> Readings:
        """What is new since it was last taken."""
        with self._lock:
            taken, self._new = self._new, Readings(gauges=dict(self._new.gauges))
        return taken

    def give_back(self, readings: Readings) -> None:
        """What was taken did not arrive; it will be taken again."""
        with self._lock:
            self._new.add(readings)


TALLY: Final = Tally()
"""This process's."""
