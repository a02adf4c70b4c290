"""The indexing job: wanted slides minus the ledger, embedded on the cluster, committed in waves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from microtome.atlas.atlas import Atlas
from microtome.atlas.commit import Committer
from microtome.atlas.described import described
from microtome.atlas.forgetting import drop_ledger_rows
from microtome.atlas.forgotten import Forgotten
from microtome.atlas.fragments import TilesTarget
from microtome.atlas.ledger import Ledger
from microtome.atlas.recovery import recover
from microtome.atlas.runs import start_run
from microtome.atlas.storage import location
from microtome.atlas.tables import open_table
from microtome.atlas.writer import Writer, open_writer
from microtome.config import IndexSettings
from microtome.engine.cluster import cluster, nodes
from microtome.engine.run import IndexSummary, counting, written_down
from microtome.engine.slide_work import SlideWork
from microtome.engine.stages import ModelChoice, Workers, embed_slides
from microtome.engine.waves import waves, with_lost
from microtome.errors import SlideForgotten
from microtome.models.encoder import EncoderOptions
from microtome.models.registry import canonical_name, load_card
from microtome.slides.slide import SlideRef
from microtome.slides.sources import find_slides
from microtome.slides.staging import StagingSettings


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
    options = EncoderOptions(precision=settings.precision, allow_licences=settings.allow_licences)
    card = load_card(settings.model, options)
    model = ModelChoice(settings.model, options, card.model_id)
    with open_writer(settings.atlas, "index") as writer:
        if open_table(settings.atlas, "tiles") is not None:
            recover(writer, Atlas.open(settings.atlas))  # may change which models there are
        atlas = Atlas.open_or_create(
            writer, settings.grid, card, selection.columns, settings.min_tissue
        )
        ledger = Ledger(atlas, card.model_id)
        refused = _forgotten(atlas, selection.refs)
        drop_ledger_rows(writer, (ref for ref in selection.refs if ref.slide_id in refused))
        refs = [ref for ref in selection.refs if ref.slide_id not in refused]
        todo = ledger.pending(refs, settings.retry_failed)
        alone = ledger.left_alone(refs, settings.retry_failed)
        alone |= dict.fromkeys(refused, SlideForgotten.cause)
        summary = IndexSummary(
            settings.atlas,
            wanted=len(selection.refs),
            already_done=len(selection.refs) - len(todo) - len(alone),
            failed=Counter(alone.values()),
            left_alone=len(alone),
            refused=len(refused),
        )
        if todo:
            recorded = asdict(settings) | {
                "model": canonical_name(settings.model),
                "sources": [s for s in settings.sources if not _holds(s, refused.values())],
            }
            summary.run_id = start_run(writer, "index", recorded, card)
            with written_down(writer, summary):
                job = _Job(settings, writer, atlas, model, card.model_id)
                job.run(described(atlas, todo), ledger, summary, started)
    return summary


def _forgotten(atlas: Atlas, refs: Sequence[SlideRef]) -> dict[str, str]:
    """URI by slide id of the slides that may not come back, as far as their names tell."""
    forgotten = Forgotten.of(atlas.uri)
    return {
        ref.slide_id: ref.uri for ref in refs if forgotten.names(ref.slide_id, case_id=ref.case_id)
    }


def _holds(source: str, uris: Iterable[str]) -> bool:
    """Whether a source is, holds or matches one of some slides; in doubt, it does."""
    place = location(source)
    return any(
        uri == place
        or uri.startswith(f"{place}/")
        or fnmatchcase(uri, place)
        or fnmatchcase(uri, f"{place}/*")
        for uri in uris
    )


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
