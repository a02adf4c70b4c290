"""The job that gives the tiles of an atlas the vectors of a further model.

What the model lacks → its slides embedded on the cluster → its column filled, wave by wave.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from microtome.atlas.atlas import Atlas, check_mpp
from microtome.atlas.backfill import Backfill
from microtome.atlas.backfill_plan import BackfillPlan, add_vector_column, plan_backfill
from microtome.atlas.ledger import Work
from microtome.atlas.recovery import recover
from microtome.atlas.runs import start_run
from microtome.atlas.staged import StagingTarget
from microtome.atlas.staging_tables import discard_staged
from microtome.atlas.writer import Writer, open_writer
from microtome.config import EmbedSettings
from microtome.engine.cluster import cluster, nodes
from microtome.engine.embed_slide import EmbedWork
from microtome.engine.run import IndexSummary, counting, written_down
from microtome.engine.stages import ModelChoice, Workers, embed_slides
from microtome.engine.waves import waves, with_lost
from microtome.models.card import ModelCard
from microtome.models.encoder import EncoderOptions
from microtome.models.registry import canonical_name, load_card
from microtome.slides.staging import StagingSettings


def run_embed(settings: EmbedSettings) -> IndexSummary:
    """Embed every tile of the atlas that has no vector of the model yet.

    Raises:
        AtlasNotFound: no atlas lies there.
        ModelMismatch: the model was made for another mpp than the atlas's grid has.
        MicrotomeError: the job can't start, or can't go on (the atlas refuses writes). A slide
            that fails is a ledger row instead.
        KeyboardInterrupt: Ctrl-C, after what was finished has been kept.
    """
    started = time.time()
    StagingSettings.from_environment()  # a wrong variable is said now, not at the first slide
    options = EncoderOptions(precision=settings.precision, allow_licences=settings.allow_licences)
    card = load_card(settings.model, options)
    model = ModelChoice(settings.model, options, card.model_id)
    check_mpp(card, Atlas.open(settings.atlas).grid)
    with open_writer(settings.atlas, "embed") as writer:
        recover(writer, Atlas.open(settings.atlas))
        add_vector_column(writer, card)
        atlas = Atlas.open(settings.atlas)
        plan = plan_backfill(atlas, card.model_id)
        summary = IndexSummary(settings.atlas, plan.held, plan.held - len(plan.wanted))
        if plan.wanted or plan.settled:
            recorded = asdict(settings) | {"model": canonical_name(settings.model)}
            summary.run_id = start_run(writer, "embed", recorded, card)
            with written_down(writer, summary):
                EmbedJob(settings, writer, atlas, model, card).run(plan, summary, started)
        writer.check_lease()
        discard_staged(settings.atlas, card.model_id)
    return summary


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """One run on the cluster.

    Attributes:
        settings: what was asked for.
        writer: of the atlas.
        atlas: with the model's column.
        model: that every worker loads.
        card: of the model.
    """

    settings: EmbedSettings
    writer: Writer
    atlas: Atlas
    model: ModelChoice
    card: ModelCard

    def run(self, plan: BackfillPlan, summary: IndexSummary, started: float) -> None:
        """Carry a plan out, and a new one as often as fragments were compacted away meanwhile."""
        failed: set[str] = set()
        while True:
            backfill = Backfill(self.writer, self.atlas, plan, self.card, summary.run_id)
            mended = {one.slide_id for one in plan.settled}
            finished = backfill.resume()
            _count(summary, [work for work in finished if work.slide_id not in mended])
            if backfill.todo:
                with cluster():
                    failed |= self._embed(backfill, plan, summary, started)
            if not backfill.missed:
                return
            plan = plan_backfill(self.atlas, self.card.model_id, failed)

    def _embed(
        self, backfill: Backfill, plan: BackfillPlan, summary: IndexSummary, started: float
    ) -> set[str]:
        """Embed what is to be embedded; returns the ids of slides that failed."""
        settings, failed = self.settings, set()
        refs = [slide.ref for slide in backfill.todo]
        workers = Workers.for_cluster(nodes(), settings.workers, settings.cpus_per_worker)
        summary.gpus = workers.gpus * min(workers.count, len(refs))
        work = EmbedWork(
            StagingTarget.of(self.atlas, self.card),
            self.atlas.grid,
            settings.batch_size,
            workers.cpus,
            plan.version,
            plan.wanted,
            plan.fragments,
        )
        with counting(summary, started, len(refs)) as (tally, display):
            outcomes = with_lost(embed_slides(refs, work, self.model, workers, tally), refs)
            for wave in waves(outcomes, settings.wave_slides, settings.wave_s):
                written = backfill.commit(wave)
                _count(summary, written)
                failed |= {one.slide_id for one in written if not one.settled}
                for _ in wave:
                    display.slide_finished()
        return failed


def _count(summary: IndexSummary, works: Iterable[Work]) -> None:
    for work in works:
        if work.status == "done":
            summary.done += 1
            summary.tiles += work.stored_tiles
        else:
            summary.failed[work.cause] += 1
        summary.bytes_read += work.bytes_read or 0
