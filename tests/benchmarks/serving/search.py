"""Searches by vector: what HTTP adds, what a server takes, and what it does with ten times that.

alone       one client: in this process, over HTTP, and a handler that does nothing, in turns
saturation  more and more clients; it is reached where more of them bring less than 5 % more
half        half as many requests a second
overload    ten times as many, for a minute; memory before, at its peak and after

All of it with HAProxy before the server and without, in turns.

MICROTOME_BENCH_STEP_S: seconds of a step, MICROTOME_BENCH_OVERLOAD_S: of the overload,
MICROTOME_BENCH_TURNS: how often with and without.

MICROTOME_BENCH_ROWS: tiles of the atlas, of made vectors (`Clusters`) of the model `statistics`.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from load import Body, Told, load, percentile_ms
from numpy.typing import NDArray
from running import Urls, cpu_s, memory_watched, running

from microtome.atlas.atlas import Atlas
from microtome.atlas.index_building import refresh_index
from microtome.atlas.runs import start_run
from microtome.atlas.writer import open_writer
from microtome.models.registry import load_card
from microtome.search.query import VectorQuery
from microtome.search.searcher import Searcher
from support.clustered_atlas import COLUMNS, GRID, Clusters, append_tiles

ROWS = int(os.environ.get("MICROTOME_BENCH_ROWS", "100000"))
STEP_S = float(os.environ.get("MICROTOME_BENCH_STEP_S", "10"))
OVERLOAD_S = float(os.environ.get("MICROTOME_BENCH_OVERLOAD_S", "60"))
MODEL = "statistics"
CLIENTS = (16, 32, 64)  # at least as many as are let in at once
QUERIES = 4
ALONE = 150
REST_S = 5.0
TURNS = int(os.environ.get("MICROTOME_BENCH_TURNS", "1"))


def made_atlas(uri: str) -> Atlas:
    """An atlas of made vectors with its index."""
    card = load_card(MODEL)
    with open_writer(uri, "index") as writer:
        atlas = Atlas.open_or_create(writer, GRID, card, COLUMNS)
        start_run(writer, "index", {"model": MODEL}, card)
        first = 0
        for vectors in Clusters(card.dim).vectors(ROWS):
            append_tiles(writer, atlas, vectors, first)
            first += len(vectors)
    refresh_index(Atlas.open(uri), card.model_id)
    return Atlas.open(uri)


def body_of(vector: NDArray[np.float32]) -> Body:
    query = {"kind": "vector", "vectors": [[round(float(value), 6) for value in vector]]}
    return Body(json.dumps({"queries": [query]}).encode())


@dataclass(frozen=True)
class Turn:
    """What was measured of one server.

    Attributes:
        name: with HAProxy or without.
        took: seconds of one client's searches, by their way.
        loads: what became of each load.
        cpu_ms: of each process, per answer.
        sizes: bytes of each process: before the overload, at its peak, after.
    """

    name: str
    took: dict[str, NDArray]
    loads: dict[str, Told]
    cpu_ms: dict[str, float]
    sizes: dict[str, tuple[float, float, float]]

    def p50(self, way: str) -> float:
        """Milliseconds of one client."""
        return percentile_ms(self.took[way], 50)


IN_PROCESS, HTTP = "in process", "over HTTP"
PROXIED, DIRECT = "nothing, by Serve's proxy", "nothing, at its own port"
FULL, HALF, OVER, AGAIN = "saturated", "half of that", "ten times that", "saturated again"


def alone(atlas: Atlas, urls: Urls, vectors: NDArray[np.float32]) -> dict[str, NDArray]:
    """Seconds of each way, one request after the other, in turns."""
    searcher, http = Searcher(atlas), httpx.Client()
    search = f"{urls.server}/v1/search"
    ways = {
        IN_PROCESS: lambda vector: searcher.search(VectorQuery(vector[None])),
        PROXIED: lambda _: http.get(urls.trivial).raise_for_status(),
        HTTP: lambda vector: _posted(http, search, body_of(vector)),
    }
    if urls.direct is not None:
        ways[DIRECT] = lambda _: http.get(urls.direct).raise_for_status()
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ALONE + 20):
        for name, ask in ways.items():
            started = time.perf_counter()
            ask(vectors[number % len(vectors)])
            if number >= 20:  # the first ones fill caches
                took[name].append(time.perf_counter() - started)
    return {name: np.array(seconds) for name, seconds in took.items()}


def _posted(http: httpx.Client, url: str, body: Body) -> None:
    headers = {"Content-Type": body.kind}
    http.post(url, content=body.data, headers=headers).raise_for_status()


def saturated(url: str, bodies: Sequence[Body]) -> tuple[int, Told]:
    """Ask with more and more clients; how many saturate the server, and what it then does."""
    steps = {clients: load(url, bodies, clients, STEP_S) for clients in CLIENTS}
    most = max(told.per_s for told in steps.values())
    return next((n, told) for n, told in steps.items() if told.per_s >= 0.95 * most)


def measured(name: str, atlas: Atlas, urls: Urls) -> Turn:
    """All of one server."""
    vectors = Clusters(load_card(MODEL).dim).drawn(64, seed=1)
    bodies = [body_of(vector) for vector in vectors[:QUERIES]]
    url = f"{urls.server}/v1/search"
    took = alone(atlas, urls, vectors)
    clients, full = saturated(url, bodies)
    half = load(url, bodies, 16, STEP_S * 2, per_s=full.per_s / 2)
    with memory_watched() as seen:
        time.sleep(REST_S)
        over = load(url, bodies, 512, OVERLOAD_S, per_s=full.per_s * 10)
    with memory_watched() as at_rest:
        time.sleep(REST_S)
    before = cpu_s()
    again = load(url, bodies, clients, STEP_S)
    used = {kind: seconds - before.get(kind, 0.0) for kind, seconds in cpu_s().items()}
    return Turn(
        name,
        took,
        {f"{FULL}, {clients} clients": full, HALF: half, OVER: over, AGAIN: again},
        {kind: seconds / len(again.accepted_s) * 1e3 for kind, seconds in used.items()},
        {kind: (all_[0], max(all_), at_rest.get(kind, [0])[-1]) for kind, all_ in seen.items()},
    )


def print_turn(turn: Turn) -> None:
    """Rows of all tables, as they come."""
    for way, seconds in turn.took.items():
        p50, p99 = (percentile_ms(seconds, percentile) for percentile in (50, 99))
        print(f"| {turn.name} | one client, {way} | | {p50:.2f} | {p99:.2f} | | |")
    for what, told in turn.loads.items():
        refused = percentile_ms(told.refused_s, 99)
        print(
            f"| {turn.name} | {what} | {told.per_s:.1f} | {told.ms(50):.0f} | {told.ms(99):.0f} "
            f"| {told.statuses} | {refused:.0f} |",
            flush=True,
        )


def print_costs(turns: Sequence[Turn]) -> None:
    """What an answer costs, and memory, by kind of process."""
    print(
        "\n| | process | CPU per answer, ms | before the overload, MB | peak | after |\n"
        "|---|---|--:|--:|--:|--:|"
    )
    for turn in turns:
        for kind, sizes in sorted(turn.sizes.items()):
            if (cpu_ms := turn.cpu_ms.get(kind, 0.0)) >= 0.05:
                said = " | ".join(f"{size / 1e6:.0f}" for size in sizes)
                print(f"| {turn.name} | {kind} | {cpu_ms:.1f} | {said} |")


def print_targets(turns: Sequence[Turn]) -> None:
    """Each target, as a share of what it allows: at most 1 is met."""
    print("\n| | over HTTP p50 | half the load p99 | ten times the load p99 |\n|---|--:|--:|--:|")
    for turn in turns:
        full, half, over, _ = turn.loads.values()
        http = turn.p50(HTTP) / (2 * turn.p50(IN_PROCESS) + turn.p50(PROXIED))
        tail, most = half.ms(99) / (4 * half.ms(50)), over.ms(99) / (2 * full.ms(99))
        print(f"| {turn.name} | {http:.2f} | {tail:.2f} | {most:.2f} |")


def main() -> None:
    """Print all tables."""
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        atlas = made_atlas(str(Path(folder, "atlas")))
        print(
            f"{ROWS:,} tiles\n\n| | load | searches/s | p50, ms | p99, ms | answers "
            "| refusals' p99, ms |\n|---|---|--:|--:|--:|---|--:|"
        )
        for _ in range(TURNS):
            for name, front in {"HAProxy": True, "none": False}.items():
                with running(atlas.uri, Path(folder, "audit.jsonl"), front=front) as urls:
                    turns.append(measured(name, atlas, urls))
                print_turn(turns[-1])
    print_costs(turns)
    print_targets(turns)
