"""What must hold in an atlas, one small function per promise; each yields what breaks it.

Most promises are about one slide, and so are most findings: there are never more than slides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from microtome.atlas.census import find_repeated, slides_without_field
from microtome.atlas.evidence import Evidence
from microtome.atlas.findings import Check, Finding, Remedy
from microtome.atlas.forgotten import Forgotten
from microtome.atlas.index_checks import indices_cover
from microtome.atlas.ledger import Work
from microtome.atlas.orphans import find_leftovers
from microtome.atlas.schema import CARD_KEY, TABLES, VECTOR_PREFIX, vector_column
from microtome.errors import CheckpointInvalid
from microtome.models.card import ModelCard


def files_readable(seen: Evidence) -> Iterator[Finding]:
    """The files that hold the tiles can be read; their vectors, where those are asked for."""
    for damaged in seen.damaged:
        yield Finding("files", ", ".join(damaged.paths), damaged.message, remedy="drop-damaged")


def slides_once(seen: Evidence) -> Iterator[Finding]:
    """Each slide id, and the bytes behind it, are in `slides` once."""
    names = Counter(seen.all_slides["slide_id"].to_pylist())
    for slide_id, rows in names.items():
        if rows > 1:
            yield Finding("slides", slide_id, f"{rows} rows of slides", remedy="withdraw")
    owner: dict[str, str] = {}
    for slide_id, content in sorted(seen.contents.items()):
        first = owner.setdefault(content, slide_id)
        if first != slide_id:
            yield Finding("slides", slide_id, f"has the bytes of {first}", remedy="withdraw")


def waves_settled(seen: Evidence) -> Iterator[Finding]:
    """Every slide in `slides` is done or empty in the ledger."""
    for slide_id in seen.unsettled:
        if seen.at_work:
            message = f"its wave isn't finished; at work: {seen.at_work}"
            yield Finding("waves", slide_id, message, severity="note")
        else:
            message = "in slides, but no row of the ledger settles it: a wave was cut short"
            yield Finding("waves", slide_id, message, remedy="recover")


def ledger_owned(seen: Evidence) -> Iterator[Finding]:
    """Whatever the ledger calls done or empty is in `slides`, once per model, of the same bytes."""
    times = Counter((work.slide_id, work.model_id) for work in seen.settled)
    for (slide_id, model_id), rows in times.items():
        if rows > 1:
            message = f"{rows} rows of the ledger settle it for the model {model_id}"
            yield Finding("ledger", slide_id, message, remedy="withdraw")
    for work in seen.settled:
        content = seen.contents.get(work.slide_id)
        if content is None:
            message = f"{work.status} in the ledger, but not in slides"
            yield Finding("ledger", work.slide_id, message, remedy="withdraw")
        elif content != work.content_id:
            message = f"{work.status} in the ledger for other bytes than those in slides"
            yield Finding("ledger", work.slide_id, message, remedy="withdraw")


def counts_agree(seen: Evidence) -> Iterator[Finding]:
    """Planned = stored = told = found, slide by slide."""
    told = dict(zip(*seen.slides.select(["slide_id", "tiles"]).to_pydict().values(), strict=True))
    unsettled = set(seen.unsettled)
    for work in seen.settled:
        slide_id = work.slide_id
        if slide_id not in told or slide_id in unsettled:
            continue
        counts = (work.planned_tiles, work.stored_tiles, told[slide_id], seen.found[slide_id])
        if len(set(counts)) > 1 or (work.status == "done") != bool(counts[0]):
            message = "{}: {} tiles planned, {} stored, {} told by slides, {} found".format(
                work.status, *counts
            )
            yield Finding("counts", slide_id, message, remedy="withdraw")


def tiles_owned(seen: Evidence) -> Iterator[Finding]:
    """Every tile belongs to a slide in `slides`."""
    for slide_id, tiles in seen.census.strangers.items():
        message = f"{tiles:,} tiles of a slide that isn't in slides"
        yield Finding("owners", slide_id or "", message, remedy="delete-tiles")


def tiles_once(seen: Evidence) -> Iterator[Finding]:
    """No tile is there twice."""
    for slide_id, tiles in find_repeated(seen.atlas.tiles).items():
        message = f"{tiles:,} tiles are there more than once"
        yield Finding("once", slide_id or "", message, remedy="deduplicate")


def tile_ids_right(seen: Evidence) -> Iterator[Finding]:
    """A tile's id is the hash of its slide's content id, the grid and its corner."""
    unsettled = set(seen.unsettled)
    for slide_id, tiles in zip(seen.census.slide_ids, seen.census.wrong_ids, strict=True):
        if tiles and slide_id not in unsettled:
            message = f"{tiles:,} tiles were cut from other bytes, elsewhere or by another grid"
            yield Finding("tile-ids", slide_id, message, remedy="withdraw")


def columns_agree(seen: Evidence) -> Iterator[Finding]:
    """Case and manifest columns of a tile are its slide's."""
    unsettled = set(seen.unsettled)
    for column, differing in seen.census.differing.items():
        for slide_id, tiles in zip(seen.census.slide_ids, differing, strict=True):
            if tiles and slide_id not in unsettled:
                message = f"{tiles:,} tiles have another {column} than slides says"
                yield Finding("columns", slide_id, message, remedy="correct-columns")


def models_known(seen: Evidence) -> Iterator[Finding]:
    """A vector column's card has the id that names it; the ledger's models have columns."""
    columns = [field for field in seen.atlas.tiles.schema if field.name.startswith(VECTOR_PREFIX)]
    for column in columns:
        try:
            card = ModelCard.from_json(column.metadata[CARD_KEY].decode())
        except (KeyError, CheckpointInvalid):
            yield Finding("models", column.name, "the vector column has no card")
            continue
        if vector_column(card.model_id) != column.name:
            yield Finding("models", column.name, f"its card is that of the model {card.model_id}")
    names = {column.name for column in columns}
    for work in seen.settled:
        if vector_column(work.model_id) not in names:
            message = f"{work.status} for the model {work.model_id}, which has no vector column"
            yield Finding("models", work.slide_id, message, "broken", "unsettle", work.model_id)


def models_cover(seen: Evidence) -> Iterator[Finding]:
    """Where the ledger says done, the model's vectors are there."""
    for model_id in seen.models:
        done = [w for w in seen.settled if w.model_id == model_id and w.slide_id in seen.contents]
        for work, tiles in _without_vectors(seen, model_id, done):
            message = f"done for the model {model_id}, but {tiles} tiles have no vector"
            yield Finding("coverage", work.slide_id, message, "broken", _redo(seen, work), model_id)


def vectors_sound(seen: Evidence) -> Iterator[Finding]:
    """Vectors are finite and of unit length."""
    for model_id, count in seen.vectors.items():
        for place, slide_id in enumerate(seen.census.slide_ids):
            for tiles, fault in (
                (count.not_finite[place], "aren't finite"),
                (count.not_unit[place], "aren't of unit length"),
            ):
                if tiles:
                    message = f"{tiles:,} vectors of the model {model_id} {fault}"
                    yield Finding("vectors", slide_id, message, remedy="withdraw")


def forgotten_gone(seen: Evidence) -> Iterator[Finding]:
    """Nothing that was forgotten is in `slides` or in the ledger."""
    rows = seen.all_slides.select(["slide_id", "content_id", "case_id"]).to_pylist()
    works = [{"slide_id": work.slide_id, "content_id": work.content_id} for work in seen.works]
    forgotten = Forgotten.of(seen.atlas.uri).among([*rows, *works])
    for slide_id in sorted({row["slide_id"] for row in forgotten}):
        # The next writer of any kind finishes a `forget` that was cut short.
        yield Finding("forgotten", slide_id, "was forgotten, but is there", remedy="recover")


def runs_ended(seen: Evidence) -> Iterator[Finding]:
    """A run that is running has a process."""
    if seen.at_work is None:
        running = seen.atlas.runs.to_table(columns=["run_id"], filter="status = 'running'")
        for run_id in running["run_id"].to_pylist():
            yield Finding("runs", run_id, "running, but no job is at work", "note", "close-runs")


def no_leftovers(seen: Evidence) -> Iterator[Finding]:
    """No version names files that a killed job left; they cost room, nothing else."""
    if seen.at_work is None:
        for table, left in find_leftovers(seen.atlas.uri).items():
            if left.files:
                message = f"{left.files:,} files of killed jobs, {left.size_bytes / 1e6:,.1f} MB"
                yield Finding("leftovers", table, message, "note", "maintain")


def _redo(seen: Evidence, work: Work) -> Remedy:
    """A slide that another model settles keeps that model's vectors."""
    return "unsettle" if seen.models_of[work.slide_id] > 1 else "withdraw"


def _without_vectors(
    seen: Evidence, model_id: str, done: list[Work]
) -> Iterator[tuple[Work, int | str]]:
    if not seen.thorough:
        lacking = slides_without_field(seen.atlas.tiles, vector_column(model_id))
        yield from ((work, "some") for work in done if work.slide_id in lacking)
        return
    present = dict(zip(seen.census.slide_ids, seen.vectors[model_id].present, strict=True))
    for work in done:
        missing = seen.found[work.slide_id] - int(present[work.slide_id])
        if missing:
            yield work, missing


def _of_slides(seen: Evidence) -> int:
    return len(seen.all_slides)


def _of_ledger(seen: Evidence) -> int:
    return len(seen.works)


def _of_tiles(seen: Evidence) -> int:
    return seen.census.rows


def _of_indices(seen: Evidence) -> int:
    of_tables = sum(len(seen.atlas.dataset(table).describe_indices()) for table in TABLES)
    return of_tables + len(seen.models)


def _of_tables(_: Evidence) -> int:
    return len(TABLES)


def _of_runs(seen: Evidence) -> int:
    return int(seen.atlas.runs.count_rows())


def _of_files(seen: Evidence) -> int:
    return int(seen.atlas.tiles.count_rows())


CHECKS = (
    Check("files", "the files of the tiles can be read", _of_files, files_readable),
    Check("slides", "each slide, and its bytes, are there once", _of_slides, slides_once),
    Check("waves", "each slide is settled in the ledger", _of_slides, waves_settled),
    Check("ledger", "what is done is in slides, of those bytes", _of_ledger, ledger_owned),
    Check("counts", "planned = stored = found, per slide and model", _of_tiles, counts_agree),
    Check("owners", "each tile belongs to a slide", _of_tiles, tiles_owned),
    Check("once", "no tile is there twice", _of_tiles, tiles_once),
    Check("tile-ids", "ids are the hash of content, grid, place", _of_tiles, tile_ids_right),
    Check("columns", "tiles and slides agree on manifest columns", _of_tiles, columns_agree),
    Check("models", "each vector column has its model's card", _of_ledger, models_known),
    Check("coverage", "where a model is done, its vectors are there", _of_ledger, models_cover),
    Check("indices", "an index covers what it says", _of_indices, indices_cover),
    Check("forgotten", "what was forgotten is gone", _of_ledger, forgotten_gone),
    Check("runs", "a running run has a process", _of_runs, runs_ended),
    Check("leftovers", "no files without owner", _of_tables, no_leftovers),
)
VECTORS = Check("vectors", "vectors are finite and of unit length", _of_tiles, vectors_sound)
"""Only where vectors are asked for: it reads all of them."""
