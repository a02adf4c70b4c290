"""What writing costs an indexing job, and what a wave's commit costs as the atlas grows.

write path  made slides are read and embedded in a plain loop, once into an atlas and once into
            nothing, by turns: the time in fragments, commits, ledger and notes of the run
waves       100 waves into an atlas of a million rows; of new slides, of changed ones, and of new
            ones with `maintain` in between: time per wave at the start and at the end

A commit moves only the names of fragments, so short vectors tell what it costs.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from microtome.models.encoder import Encoder
from microtome.models.registry import load_encoder
from microtome.slides.slide import SlideRef
from microtome.tiles.batch import TileBatch
from microtome_jobs.made.slides import MadeSpec, make_slides
from support.made_atlas import MadeAtlas

MODELS = ("starter", "timm:resnet18@random:0")
ROUNDS = 3
WAVES, WAVE_SLIDES = 100, 16
FIRST_SLIDES, SLIDE_TILES = 1000, 1000
MAINTAIN_EVERY = 25
SHOWN = 10  # waves whose median is the start, and the end


class Clock:
    """Adds up the seconds of the blocks it is put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        started_s = time.monotonic()
        yield
        self.seconds += time.monotonic() - started_s


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


def index(slides: list[Path], encoder: Encoder, uri: str, *, writing: bool) -> tuple[float, Clock]:
    """Read and embed slides in a loop, two to a wave; seconds, those of writing, and tiles."""
    grid, clock, wave = GridSettings(), Clock(), []
    started_s = time.monotonic()
    with clock.running():
        made = MadeAtlas(uri, encoder.card, grid, pa.schema([]))
    work = SlideWork(made.target, grid, MppSettings(), "auto", 0.5, batch_size=64, threads=2)
    with patch.object(slide_work, "FragmentWriter", timed(clock) if writing else Nothing):
        for number, slide in enumerate(slides):
            ref = SlideRef(slide.stem, str(slide), stamp="1")
            wave.append(work.run(ref, encoder, lambda planned, done: None))
            if writing and number % 2:
                with clock.running():
                    made.committer.commit(wave)
                wave = []
    with clock.running():
        finish_run(made.writer, made.run_id, "finished", RunTotals())
    seconds = time.monotonic() - started_s
    made.release()
    return (seconds, clock) if writing else (seconds - clock.seconds, clock)


def write_path(folder: Path) -> None:
    """Print the share of the write path in a job's time."""
    make_slides(folder / "slides", MadeSpec(slides=4, side_px=6144, bad=False))
    slides = sorted((folder / "slides").glob("*.svs"))
    print("| model | tiles | tiles/s | writing, µs a tile | share of the time | with / without |")
    print("|---|--:|--:|--:|--:|--:|")
    for model in MODELS:
        encoder = load_encoder(model)
        index(slides[:1], encoder, str(folder / "warm"), writing=True)
        shares, ratios, rates, each = [], [], [], []
        for number in range(ROUNDS):
            uri = folder / f"{model.partition(':')[0]}{number}"
            wrote, clock = index(slides, encoder, str(uri), writing=True)
            tiles = MadeAtlas(str(uri), encoder.card, GridSettings(), pa.schema([]))
            count = tiles.atlas.tiles.count_rows()
            tiles.release()
            plain, _ = index(slides, encoder, str(folder / f"{uri.name}-null"), writing=False)
            shares.append(clock.seconds / wrote)
            ratios.append(wrote / plain)
            rates.append(count / wrote)
            each.append(clock.seconds / count * 1e6)
        print(
            f"| {model} | {count:,} | {statistics.median(rates):.0f} "
            f"| {statistics.median(each):.0f} | {statistics.median(shares):.2%} "
            f"| {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |",
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
) -> tuple[list[float], list[float]]:
    """Seconds of each wave's commit, and of each `maintain`."""
    waves, maintenance = [], []
    made = MadeAtlas(uri)
    committer = made.committer
    for wave in range(WAVES):
        if maintained and wave % MAINTAIN_EVERY == 0:
            made.release()
            started_s = time.monotonic()
            maintain(uri, MaintainSettings(retention_s=1.0, index=False))
            maintenance.append(time.monotonic() - started_s)
            made = MadeAtlas(uri)
            committer = made.committer
        arrived = outcomes(made, wave)
        started_s = time.monotonic()
        became = committer.commit(arrived)
        waves.append(time.monotonic() - started_s)
        assert all(outcome.status == "done" for outcome in became)
    made.release()
    return waves, maintenance


def waves_of(folder: Path) -> None:
    """Print the cost of a wave at the start and at the end."""
    fill(str(folder / "million"))
    print(
        "\n| 100 waves of 16 slides | a wave at the start, ms | at the end, ms | ratio | fragments "
        "| manifest, KB | maintain, s each |"
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
        waves, maintenance = commit_waves(str(uri), outcomes, maintained=maintained)
        begin, end = (statistics.median(part) * 1e3 for part in (waves[:SHOWN], waves[-SHOWN:]))
        made = MadeAtlas(str(uri))
        tiles = made.atlas.tiles
        made.release()
        manifests = sorted((uri / "tiles.lance" / "_versions").glob("*.manifest"), key=_made)
        kept = manifests[-1].stat().st_size / 1e3
        each = statistics.median(maintenance) if maintenance else 0.0
        print(
            f"| {name} | {begin:.0f} | {end:.0f} | {end / begin:.2f} "
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
        waves_of(Path(folder))
