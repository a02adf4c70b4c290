"""What writing costs an indexing job, and what a wave's commit costs as the atlas grows.

write path  made slides are read and embedded in a plain loop, once into an atlas and once into
            nothing, by turns: the time of fragments, commits and ledger, and once per run of the
            lease, the tables and the notes of the run
waves       100 waves into an atlas of a million rows, of new slides and of changed ones, with and
            without `maintain` in between: time per wave at the start and at the end, by the wall
            and of all threads, which a busy machine disturbs less

A commit moves only the names of fragments, so short vectors tell what it costs.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.fragments import FragmentWriter
from microtome.atlas.maintain import MaintainSettings, maintain
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.runs import RunTotals, finish_run
from microtome.config import GridSettings, MppSettings
from microtome.engine import slide_work
from microtome.engine.slide_work import SlideWork
from microtome.engine.waves import waves
from microtome.models.encoder import Encoder
from microtome.models.registry import load_encoder
from microtome.slides.slide import SlideRef
from microtome.tiles.batch import TileBatch
from microtome_jobs.made.slides import MadeSpec, make_slides
from support.made_atlas import CARD, MadeAtlas, ref_of, slide_of, tiles_of, vectors_of

ROUNDS = 3
WAVES, WAVE_SLIDES, WAVE_S = 100, 16, 30.0  # the last two as `microtome index` has them
FIRST_SLIDES, SLIDE_TILES = 1000, 1000
LARGE_TILES = 40_000
MAINTAIN_EVERY = 25
SHOWN = MAINTAIN_EVERY  # waves whose median is the start, and the end


class Clock:
    """Adds up the seconds of the blocks it is put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        started_s = time.monotonic()
        yield
        self.seconds += time.monotonic() - started_s


class Free:
    """A model that costs nothing: what is left of the time is reading, as beside a quick GPU."""

    card = replace(CARD, name="free", dim=512)

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full((len(pixels), 512), 512**-0.5, np.float32)


class Nothing:
    """Takes tiles like `FragmentWriter` and keeps none."""

    def __init__(self, *_: Any) -> None:
        self.rows = 0

    def add(self, tiles: TileBatch, vectors: NDArray[np.float32]) -> None:
        self.rows += len(tiles)

    def close(self) -> tuple[str, ...]:
        return ("{}",)


def timed(clock: Clock) -> type[FragmentWriter]:
    """`FragmentWriter` on a clock."""

    class Timed(FragmentWriter):
        def add(self, tiles: TileBatch, vectors: NDArray[np.float32]) -> None:
            with clock.running():
                super().add(tiles, vectors)

        def close(self) -> tuple[str, ...]:
            with clock.running():
                return super().close()

    return Timed


@dataclass(frozen=True, slots=True)
class Indexed:
    """Seconds of one indexing: of slides by wall and CPU, of writing them, of the run's notes."""

    all_s: float
    cpu_s: float
    tiles_s: float
    run_s: float
    tiles: int


def index(slides: list[Path], encoder: Encoder, uri: str, *, writing: bool) -> Indexed:
    """Read and embed slides in a loop; waves are committed as the job commits them."""
    grid, of_tiles, of_run, tiles = GridSettings(), Clock(), Clock(), 0
    with of_run.running():
        made = MadeAtlas(uri, encoder.card, grid, pa.schema([]))
    work = SlideWork(made.target, grid, MppSettings(), "auto", 0.5, batch_size=64, threads=2)
    refs = [SlideRef(slide.stem, str(slide), stamp="1") for slide in slides]
    outcomes = (work.run(ref, encoder, lambda planned, done: None) for ref in refs)
    started_s, cpu_s = time.monotonic(), time.process_time()
    with patch.object(slide_work, "FragmentWriter", timed(of_tiles) if writing else Nothing):
        for wave in waves(outcomes, WAVE_SLIDES, WAVE_S):
            tiles += sum(outcome.stored_tiles for outcome in wave)
            if writing:
                with of_tiles.running():
                    made.committer.commit(wave)
    ended_s = time.monotonic() - started_s, time.process_time() - cpu_s
    with of_run.running():
        finish_run(made.writer, made.run_id, "finished", RunTotals())
    made.release()
    return Indexed(*ended_s, of_tiles.seconds, of_run.seconds, tiles)


def write_path(folder: Path) -> None:
    """Print the share of the write path in a job's time."""
    make_slides(folder / "slides", MadeSpec(slides=4, side_px=4096, bad=False))
    slides = sorted((folder / "slides").glob("*.svs"))
    print(
        "| model | tiles | tiles/s | writing: a run, ms | a tile, µs | share of the time "
        "| CPU time with / without |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, encoder in (("tissue", load_encoder("tissue")), ("free, 512 values", Free())):
        index(slides[:2], encoder, str(folder / f"{name}-warm"), writing=True)
        wrote, kept_nothing = [], []
        for number in range(ROUNDS):
            wrote.append(index(slides, encoder, str(folder / f"{name}{number}"), writing=True))
            none = str(folder / f"{name}{number}-none")
            kept_nothing.append(index(slides, encoder, none, writing=False))
        shares = [(one.tiles_s + one.run_s) / (one.all_s + one.run_s) for one in wrote]
        ratios = [one.cpu_s / other.cpu_s for one, other in zip(wrote, kept_nothing, strict=True)]
        median, tiles = statistics.median, wrote[0].tiles
        print(
            f"| {name} | {tiles:,} | {median(tiles / one.all_s for one in wrote):.0f} "
            f"| {median(one.run_s for one in wrote) * 1e3:.0f} "
            f"| {median(one.tiles_s / tiles for one in wrote) * 1e6:.0f} "
            f"| {median(shares):.2%} "
            f"| {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |",
            flush=True,
        )


def large_slide(folder: Path) -> None:
    """Print what a tile costs where a commit is shared by many."""
    made = MadeAtlas(str(folder / "large"), Free.card)
    ref = ref_of("large")
    vectors = vectors_of("large", LARGE_TILES, Free.card.dim)
    started_s, cpu_s = time.monotonic(), time.process_time()
    writer = FragmentWriter(made.target, ref, slide_of(ref, "large"), size_px=32)
    for first in range(0, LARGE_TILES, 64):
        batch = vectors[first : first + 64]
        writer.add(tiles_of(len(batch), first=first), batch)
    writer.close()
    each_us = (time.monotonic() - started_s) / LARGE_TILES * 1e6
    cpu_us = (time.process_time() - cpu_s) / LARGE_TILES * 1e6
    made.release()
    print(
        f"\nA slide of {LARGE_TILES:,} tiles of 512 values: {each_us:.0f} µs a tile ({cpu_us:.0f} "
        f"of the CPU), {3000 * each_us / 1e6:.1%} of the time at 3,000 tiles/s.",
        flush=True,
    )


def fill(uri: str) -> None:
    """An atlas of a million rows."""
    made = MadeAtlas(uri)
    for first in range(0, FIRST_SLIDES, 100):
        names = [f"slide{number}" for number in range(first, first + 100)]
        made.committer.commit([made.done(name, tiles=SLIDE_TILES) for name in names])
    finish_run(made.writer, made.run_id, "finished", RunTotals())
    made.release()


def new(made: MadeAtlas, wave: int) -> list[SlideOutcome]:
    """Slides the atlas doesn't know."""
    names = [f"new{wave}-{number}" for number in range(WAVE_SLIDES)]
    return [made.done(name, tiles=SLIDE_TILES) for name in names]


def changed(made: MadeAtlas, wave: int) -> list[SlideOutcome]:
    """Slides of the atlas with other bytes."""
    numbers = [(wave * WAVE_SLIDES + number) % FIRST_SLIDES for number in range(WAVE_SLIDES)]
    return [
        made.done(f"slide{number}", f"{number} in wave {wave}", tiles=SLIDE_TILES, stamp="2")
        for number in numbers
    ]


def commit_waves(
    uri: str, outcomes: Callable[[MadeAtlas, int], list[SlideOutcome]], *, maintained: bool
) -> tuple[NDArray[np.float64], list[float]]:
    """Seconds by wall and CPU of each wave's commit, (waves, 2), and of each `maintain`."""
    times, maintenance = [], []
    made = MadeAtlas(uri)
    committer = made.committer
    for wave in range(WAVES):
        if maintained and wave % MAINTAIN_EVERY == 0:
            made.release()
            started_s = time.monotonic()
            maintain(uri, MaintainSettings(retention_s=1.0, index="none"))
            maintenance.append(time.monotonic() - started_s)
            made = MadeAtlas(uri)
            committer = made.committer
        arrived = outcomes(made, wave)
        started_s = time.monotonic(), time.process_time()
        became = committer.commit(arrived)
        ended_s = time.monotonic(), time.process_time()
        times.append(np.subtract(ended_s, started_s))
        assert all(outcome.status == "done" for outcome in became)
    made.release()
    return np.array(times), maintenance


def waves_of(folder: Path) -> None:
    """Print the cost of a wave at the start and at the end."""
    fill(str(folder / "million"))
    print(
        "\n| 100 waves of 16 slides | a wave at the start, ms (CPU) | at the end | ratio "
        "| fragments | manifest, KB | each maintain, s |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, outcomes, maintained in (
        ("new slides", new, False),
        ("new slides, maintained every 25", new, True),
        ("changed slides", changed, False),
        ("changed slides, maintained every 25", changed, True),
    ):
        uri = folder / name.replace(",", "").replace(" ", "-")
        shutil.copytree(folder / "million", uri)
        times, maintenance = commit_waves(str(uri), outcomes, maintained=maintained)
        begin, end = (np.median(part, axis=0) * 1e3 for part in (times[:SHOWN], times[-SHOWN:]))
        made = MadeAtlas(str(uri))
        tiles = made.atlas.tiles
        made.release()
        manifests = sorted((uri / "tiles.lance" / "_versions").glob("*.manifest"), key=_made)
        kept = manifests[-1].stat().st_size / 1e3
        each = statistics.median(maintenance) if maintenance else 0.0
        print(
            f"| {name} | {begin[0]:.0f} ({begin[1]:.0f}) | {end[0]:.0f} ({end[1]:.0f}) "
            f"| {end[0] / begin[0]:.2f} ({end[1] / begin[1]:.2f}) "
            f"| {len(tiles.get_fragments()):,} | {kept:,.0f} | {f'{each:.1f}' if each else ''} |",
            flush=True,
        )
        shutil.rmtree(uri)


def _made(path: Path) -> int:
    return path.stat().st_mtime_ns


def main() -> None:
    """Print both tables."""
    print("\n## Writing\n")
    with tempfile.TemporaryDirectory() as folder:
        write_path(Path(folder))
        large_slide(Path(folder))
        waves_of(Path(folder))
