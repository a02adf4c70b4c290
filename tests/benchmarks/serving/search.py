"""Searches by vector: what HTTP adds, what a server takes, and what it does with ten times that.

alone       one client: in this process, over HTTP, and a handler that does nothing, in turns
saturation  more and more clients; it is reached where more of them bring less than 5 % more
half        half as many requests a second
overload    ten times as many, for a minute; memory before, at its peak and after

MICROTOME_BENCH_STEP_S: seconds of a step, MICROTOME_BENCH_OVERLOAD_S: of the overload.

MICROTOME_BENCH_ROWS: tiles of the atlas, of made vectors (`Clusters`) of the model `statistics`.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
from load import Body, Told, load, percentile_ms
from numpy.typing import NDArray
from running import cpu_s, memory_watched, running

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
CLIENTS = (1, 4, 16, 32, 64)
QUERIES = 4
ALONE = 150
REST_S = 5.0


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


def alone(atlas: Atlas, url: str, vectors: NDArray[np.float32]) -> dict[str, NDArray]:
    """Seconds of each way, one request after the other, in turns."""
    searcher, http = Searcher(atlas), httpx.Client(base_url=url)
    ways = {
        "in process": lambda vector: searcher.search(VectorQuery(vector[None])),
        "a handler that does nothing": lambda _: http.get("/trivial").raise_for_status(),
        "over HTTP": lambda vector: _posted(http, body_of(vector)),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ALONE + 20):
        for name, ask in ways.items():
            started = time.perf_counter()
            ask(vectors[number % len(vectors)])
            if number >= 20:  # the first ones fill caches
                took[name].append(time.perf_counter() - started)
    return {name: np.array(seconds) for name, seconds in took.items()}


def _posted(http: httpx.Client, body: Body) -> None:
    headers = {"Content-Type": body.kind}
    http.post("/v1/search", content=body.data, headers=headers).raise_for_status()


def saturated(url: str, bodies: Sequence[Body]) -> tuple[int, Told]:
    """Ask with more and more clients; how many saturate the server, and what it then does."""
    print("\n| clients | searches/s | p50, ms | p99, ms | other answers |\n|--:|--:|--:|--:|--:|")
    steps = {}
    for clients in CLIENTS:
        steps[clients] = told = load(url, bodies, clients, STEP_S)
        print(
            f"| {clients} | {told.per_s:.1f} | {told.ms(50):.1f} | {told.ms(99):.1f} "
            f"| {len(told.refused_s)} |",
            flush=True,
        )
    most = max(told.per_s for told in steps.values())
    return next((n, told) for n, told in steps.items() if told.per_s >= 0.95 * most)


def row(name: str, told: Told) -> None:
    refused = percentile_ms(told.refused_s, 99)
    print(
        f"| {name} | {told.per_s:.1f} | {told.ms(50):.1f} | {told.ms(99):.1f} "
        f"| {told.statuses} | {refused:.1f} |",
        flush=True,
    )


def cpu(before: dict[str, float], after: dict[str, float], answers: int) -> None:
    """Print what an answer costs, by kind of process."""
    print("\n| process | CPU per answer, ms |\n|---|--:|")
    for kind, seconds in sorted(after.items()):
        if (used := seconds - before.get(kind, 0.0)) > 0.0:
            print(f"| {kind} | {used / answers * 1e3:.1f} |")


def memory(seen: dict[str, list[float]], at_rest: dict[str, list[float]]) -> None:
    """Print resident memory per kind of process."""
    print("\n| process | before, MB | peak, MB | after, MB |\n|---|--:|--:|--:|")
    for kind, sizes in sorted(seen.items()):
        after = at_rest.get(kind, [0])[-1]
        print(f"| {kind} | {sizes[0] / 1e6:.0f} | {max(sizes) / 1e6:.0f} | {after / 1e6:.0f} |")


def main() -> None:
    """Print all tables."""
    with tempfile.TemporaryDirectory() as folder:
        atlas = made_atlas(str(Path(folder, "atlas")))
        vectors = Clusters(load_card(MODEL).dim).drawn(64, seed=1)
        bodies = [body_of(vector) for vector in vectors[:QUERIES]]
        with running(atlas.uri, Path(folder, "audit.jsonl")) as server:
            took = alone(atlas, server, vectors)
            print(f"{ROWS:,} tiles\n\n| one client | p50, ms | p99, ms |\n|---|--:|--:|")
            for name, seconds in took.items():
                print(
                    f"| {name} | {percentile_ms(seconds, 50):.2f} "
                    f"| {percentile_ms(seconds, 99):.2f} |"
                )
            url = f"{server}/v1/search"
            clients, full = saturated(url, bodies)
            print(
                "\n| load | searches/s | p50, ms | p99, ms | answers | refusals' p99, ms |\n"
                "|---|--:|--:|--:|---|--:|"
            )
            row(f"saturated, {clients} clients", full)
            half = load(url, bodies, 16, STEP_S * 2, per_s=full.per_s / 2)
            row("half of that", half)
            with memory_watched() as seen:
                time.sleep(REST_S)
                over = load(url, bodies, 512, OVERLOAD_S, per_s=full.per_s * 10)
            row("ten times that", over)
            with memory_watched() as at_rest:
                time.sleep(REST_S)
            before = cpu_s()
            again = load(url, bodies, clients, STEP_S)
            row("saturated again", again)
            cpu(before, cpu_s(), len(again.accepted_s))
            memory(seen, at_rest)
