"""What all processes of a server have counted together, for operators: Prometheus text.

A scrape reaches any one replica of the ingress, and replicas come and go. So each process counts
for itself and once a second hands what is new to `Meter`, which alone keeps totals. What a process
counted in its last second may be lost with it; where the meter's own process is replaced, totals
begin at 0 again, as `rate()` expects of counters. Requests that Serve's proxy refuses because every
ingress is full never get here: they are in Ray's own metrics.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from ray import serve

from microtome_serve.metrics import TALLY, Distribution, Family, Key, Readings, Tally

log = logging.getLogger("microtome.serve")

REPORT_EVERY_S: Final = 1.0
SILENT_S: Final = 10.0
"""After which a process that reports no more counts as gone."""


class Totals:
    """What all processes have counted together."""

    def __init__(self) -> None:
        self._counted = Readings()
        self._gauges: dict[str, tuple[float, Mapping[Key, float]]] = {}

    def add(self, source: str, new: Readings) -> None:
        """Take in what is new of one process."""
        self._counted.add(new)
        self._gauges[source] = time.monotonic(), new.gauges

    def collect(self) -> Iterator[Metric]:
        """The metrics, as `prometheus_client` asks for them."""
        families: dict[Family, Any] = {}
        for (family, labels), value in self._counted.counters.items():
            counter = families.setdefault(
                family, CounterMetricFamily(family.name, family.doc, labels=family.labels)
            )
            counter.add_metric(labels, value)
        for (family, labels), seen in self._counted.distributions.items():
            histogram = families.setdefault(
                family, HistogramMetricFamily(family.name, family.doc, labels=family.labels)
            )
            histogram.add_metric(labels, _cumulated(family, seen), sum_value=seen.total)
        for (family, labels), value in self._shown().items():
            gauge = families.setdefault(
                family, GaugeMetricFamily(family.name, family.doc, labels=family.labels)
            )
            gauge.add_metric(labels, value)
        yield from families.values()

    def text(self) -> str:
        """Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry).decode()

    def _shown(self) -> dict[Key, float]:
        """The gauges of all processes that still report."""
        least_s = time.monotonic() - SILENT_S
        self._gauges = {source: said for source, said in self._gauges.items() if said[0] > least_s}
        values: dict[Key, list[float]] = defaultdict(list)
        for _, gauges in self._gauges.values():
            for key, value in gauges.items():
                values[key].append(value)
        return {
            key: sum(given) if key[0].kind == "sum" else max(given) for key, given in values.items()
        }


def _cumulated(family: Family, seen: Distribution) -> list[tuple[str, float]]:
    ends = [f"{end:g}" for end in family.buckets] + ["+Inf"]
    counts = [sum(seen.counts[: place + 1]) for place in range(len(ends))]
    return list(zip(ends, counts, strict=True))


class Meter:
    """The deployment that keeps totals: always one replica, which holds nothing else."""

    def __init__(self) -> None:
        self._totals = Totals()

    async def report(self, source: str, new: Readings) -> None:
        """Take in what is new of one process."""
        self._totals.add(source, new)

    async def text(self) -> str:
        """Prometheus' text format."""
        return self._totals.text()


def report_to_meter(tally: Tally = TALLY) -> None:
    """Begin to hand what this replica's process counts to its application's meter."""
    application = serve.get_replica_context().app_name

    def report() -> None:
        source = uuid4().hex
        while True:
            time.sleep(REPORT_EVERY_S)
            new = tally.taken()
            try:
                meter = serve.get_deployment_handle("Meter", application)
                meter.report.remote(source, new).result(timeout_s=SILENT_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, counting goes on
                log.debug("metrics weren't taken: %s", type(error).__name__)
                tally.give_back(new)

    threading.Thread(target=report, name="metrics", daemon=True).start()
