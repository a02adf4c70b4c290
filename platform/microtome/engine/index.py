"""The indexing job: wanted slides minus the ledger, embedded on the cluster, committed in waves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from microtome.atlas.atlas import Atlas
from microtome.atlas.commit import Committer
from microtome.atlas.fragments import TilesTarget
from microtome.atlas.ledger import Ledger
from microtome.atlas.outcome import SlideOutcome
from microtome.atlas.recovery import recover
from microtome.atlas.runs import RunStatus, RunTotals, finish_run, start_run
from microtome.atlas.writer import Writer, open_writer
from microtome.config import IndexSettings
from microtome.engine.cluster import cluster, nodes
from microtome.engine.progress import ProgressDisplay, Tally
from microtome.engine.slide_work import SlideWork
from microtome.engine.stages import ModelChoice, Workers, embed_slides
from microtome.errors import AtlasError, WorkerLost
from microtome.models.encoder import EncoderOptions
from microtome.models.registry import canonical_name, load_card
from microtome.slides.slide import SlideRef
from microtome.slides.sources import find_slides
from microtome.slides.staging import StagingSettings


@dataclass(slots=True)
class IndexSummary:
    """What a run did.

    Attributes:
        run_id: its row in `runs`; empty where there was nothing to do.
        atlas: as the user named it.
        wanted: slides found at the sources.
        already_done: slides that earlier runs had finished.
        done: slides whose tiles this run stored.
        empty: slides without tissue.
        unchanged: slides that looked changed and weren't.
        failed: slides that failed, by cause.
        tiles: stored by this run.
        bytes_read: taken from files or the store.
        gpus: held by the workers.
        startup_s: finding slides, starting Ray and the workers, loading the model.
        embed_s: from the first slide planned to the last commit.
    """

    atlas: str
    wanted: int
    already_done: int
    run_id: str = ""
    done: int = 0
    empty: int = 0
    unchanged: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    tiles: int = 0
    bytes_read: int = 0
    gpus: float = 0.0
    startup_s: float = 0.0
    embed_s: float = 0.0

    def add(self, outcome: SlideOutcome) -> None:
        """Count one slide."""
        if outcome.status == "done":
            self.done += 1
            self.tiles += outcome.stored_tiles
        elif outcome.status == "empty":
            self.empty += 1
        elif outcome.status == "unchanged":
            self.unchanged += 1
        else:
            self.failed[outcome.cause] += 1
        self.bytes_read += outcome.bytes_read

    @property
    def finished(self) -> int:
        """Slides this run has an outcome for."""
        return self.done + self.empty + self.unchanged + self.failed.total()

    @property
    def tiles_per_s(self) -> float:
        """Tiles over the time spent on slides, Ray's start left out."""
        return self.tiles / self.embed_s if self.embed_s else 0.0

    @property
    def s_per_slide(self) -> float:
        """Wall time per slide, over all workers together."""
        return self.embed_s / self.finished if self.finished else 0.0

    def to_json(self) -> dict[str, Any]:
        """The summary as scripts read it."""
        derived = {"tiles_per_s": self.tiles_per_s, "s_per_slide": self.s_per_slide}
        return asdict(self) | {"failed": dict(self.failed)} | derived


def run_index(settings: IndexSettings) -> IndexSummary:
    """Index every wanted slide that isn't in the atlas yet.

    Raises:
        MicrotomeError: the job can't start, or can't go on (the atlas refuses writes). A slide
            that fails is a ledger row instead.
        KeyboardInterrupt: Ctrl-C, after what was finished has been committed.
    """
    started = time.time()
    StagingSettings.from_environment()  # a wrong variable is said now, not at the first slide
    selection = find_slides(settings.sources, settings.manifest)
    model = ModelChoice(
        settings.model,
        EncoderOptions(precision=settings.precision, allow_licences=settings.allow_licences),
    )
    card = load_card(model.name, model.options)
    with open_writer(settings.atlas, "index") as writer:
        atlas = Atlas.open_or_create(writer, settings.grid, card, selection.columns)
        recover(writer, atlas)
        ledger = Ledger(atlas, card.model_id)
        todo = ledger.pending(selection.refs)
        summary = IndexSummary(settings.atlas, len(selection.refs), len(selection.refs) - len(todo))
        if todo:
            recorded = asdict(settings) | {"model": canonical_name(settings.model)}
            summary.run_id = start_run(writer, "index", recorded, card)
            with written_down(writer, summary):
                job = _Job(settings, writer, atlas, model, card.model_id)
                job.run(todo, ledger, summary, started)
    return summary


@contextmanager
def written_down(writer: Writer, summary: IndexSummary) -> Iterator[None]:
    """Note in `runs` how the run ended, however it does."""
    try:
        yield
    except BaseException as error:
        status: RunStatus = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(AtlasError):  # on a full disk the first error says more
            finish_run(writer, summary.run_id, status, _totals(summary))
        raise
    finish_run(writer, summary.run_id, "finished", _totals(summary))


@dataclass(frozen=True, slots=True)
class _Job:
    """One run on the cluster."""

    settings: IndexSettings
    writer: Writer
    atlas: Atlas
    model: ModelChoice
    model_id: str

    def run(
        self, todo: list[SlideRef], ledger: Ledger, summary: IndexSummary, started: float
    ) -> None:
        settings = self.settings
        with cluster():
            workers = Workers.for_cluster(nodes(), settings.workers, settings.cpus_per_worker)
            summary.gpus = workers.gpus * min(workers.count, len(todo))
            work = SlideWork(
                target=TilesTarget.of(self.atlas, self.model_id, summary.run_id),
                grid=settings.grid,
                mpp=settings.mpp,
                reader=settings.reader,
                min_tissue=settings.min_tissue,
                batch_size=settings.batch_size,
                threads=workers.cpus,
                known=ledger.owners(),
            )
            committer = Committer(self.writer, self.atlas, summary.run_id, self.model_id)
            with counting(summary, started, len(todo)) as (tally, display):
                outcomes = with_lost(embed_slides(todo, work, self.model, workers, tally), todo)
                for wave in waves(outcomes, settings.wave_slides, settings.wave_s):
                    for outcome in committer.commit(wave):
                        summary.add(outcome)
                        display.slide_finished()


@contextmanager
def counting(
    summary: IndexSummary, started: float, slides: int
) -> Iterator[tuple[Tally, ProgressDisplay]]:
    """Show progress, and at the end split the time into start-up and work."""
    tally = Tally()
    display = ProgressDisplay(tally, slides)
    try:
        with display:
            yield tally, display
    finally:
        now = time.time()
        working_since = display.since or now
        summary.startup_s = working_since - started
        summary.embed_s = now - working_since


def waves(
    outcomes: Iterable[SlideOutcome], slides: int, seconds: float
) -> Iterator[list[SlideOutcome]]:
    """Group outcomes for one commit each: so many slides, or what has come in so many seconds.

    Ctrl-C while waiting yields what has come before it goes on up, so finished work is kept.
    """
    wave: list[SlideOutcome] = []
    last = time.monotonic()
    try:
        for outcome in outcomes:
            wave.append(outcome)
            if len(wave) >= slides or time.monotonic() - last >= seconds:
                yield wave
                wave, last = [], time.monotonic()
    except KeyboardInterrupt:
        if wave:
            yield wave
        raise
    if wave:
        yield wave


def with_lost(
    outcomes: Iterable[SlideOutcome], wanted: Iterable[SlideRef]
) -> Iterator[SlideOutcome]:
    """Every outcome, then a failure for each wanted slide that has none: its process died."""
    missing = {ref.slide_id: ref for ref in wanted}
    for outcome in outcomes:
        missing.pop(outcome.ref.slide_id, None)
        yield outcome
    for ref in missing.values():
        lost = WorkerLost(
            f"the process that read {ref.slide_id} died each time it was tried",
            remedy="It may have run out of memory, or a codec crashed; the worker's log says more.",
        )
        yield SlideOutcome(ref, status="failed", cause=lost.cause, message=str(lost))


def _totals(summary: IndexSummary) -> RunTotals:
    return RunTotals(
        slides_done=summary.done,
        slides_empty=summary.empty,
        slides_failed=summary.failed.total(),
        tiles=summary.tiles,
        bytes_read=summary.bytes_read,
        seconds=summary.startup_s + summary.embed_s,
        tiles_per_s=summary.tiles_per_s,
        gpu_seconds=summary.gpus * summary.embed_s,
    )
