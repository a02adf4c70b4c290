"""Mends what `verify` found, as far as the atlas itself knows better.

What can be told from the other tables is put right in place; a slide about which they disagree is
withdrawn, so that the next `index` does it again. In each withdrawal the ledger's word goes first
and the row of `slides` last, so one that is cut short is finished by whoever writes next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import lance
import pyarrow as pa

from microtome.atlas.atlas import Atlas
from microtome.atlas.damage import find_damaged
from microtome.atlas.findings import Finding, Remedy
from microtome.atlas.index_files import drop_index as drop_codes
from microtome.atlas.mosaic_files import drop_mosaics
from microtome.atlas.recovery import recover
from microtome.atlas.rewriting import deletion
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.atlas.schema import TABLES
from microtome.atlas.sql import one_of, quoted
from microtome.atlas.tables import newest_table
from microtome.atlas.verify import Report, verify
from microtome.atlas.writer import Writer

ROUNDS = 6  # what one round mends, the next may have to go on from
AT_ONCE = 1000  # slides or rows that one filter names


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    Attributes:
        before: what was found.
        actions: what was done about it, in words.
        after: what is found now.
    """

    before: Report
    actions: tuple[str, ...]
    after: Report

    def to_json(self) -> dict[str, Any]:
        """The report afterwards, as scripts read it, with what was done."""
        found = [f"{finding.check}: {finding.subject}" for finding in self.before.broken]
        return self.after.to_json() | {"found": found, "actions": list(self.actions)}


def repair(
    writer: Writer, *, vectors: bool = False, starting: Callable[[str], None] = lambda _: None
) -> Repaired:
    """Mend what can be mended, and look again.

    Args:
        writer: of the atlas.
        vectors: as in `verify`.
        starting: as in `verify`.

    Raises:
        AtlasError: a table other than `tiles` can't be read.
        AtlasWriteFailed: the store refuses; running it again goes on.
    """
    look = partial(verify, writer.uri, vectors=vectors, ours=True, starting=starting)
    before = report = look()
    actions: list[str] = []
    run_id = ""
    for _ in range(ROUNDS):
        ours = ("runs", run_id)
        mendable = (finding for finding in report.findings if finding.mendable)
        todo = [finding for finding in mendable if (finding.check, finding.subject) != ours]
        if not todo:
            break
        run_id = run_id or start_run(writer, "repair", {"vectors": vectors})  # ends killed runs
        actions += _mend(writer, todo)
        report = look()
    if run_id:
        finish_run(writer, run_id, "finished", RunTotals())
        report = look()
    return Repaired(before, tuple(actions), report)


def _mend(writer: Writer, findings: Sequence[Finding]) -> Iterator[str]:
    """Apply each remedy that is asked for once; yields what was done.

    Nothing is taken out of the atlas while anything can be put right in it: that may be enough.
    """
    asked: dict[Remedy, list[Finding]] = {}
    for finding in findings:
        asked.setdefault(finding.remedy, []).append(finding)
    remedies = IN_PLACE if asked.keys() & IN_PLACE.keys() else LAST
    for remedy, mend in remedies.items():
        if remedy in asked:
            yield from mend(writer, asked[remedy])


def _drop_damaged(writer: Writer, _: Sequence[Finding]) -> Iterator[str]:
    gone: list[int] | None = None
    for _look in range(2):  # once may be a mishap of reading, and what is dropped is lost
        tiles = newest_table(writer.uri, "tiles")
        damaged = find_damaged(tiles, tiles.schema.names, writer.uri, among=gone)
        gone = [one.fragment_id for one in damaged]
    if gone:
        writer.commit("tiles", lambda _: lance.LanceOperation.Update(removed_fragment_ids=gone))
        yield f"let go of {len(gone)} damaged fragments of tiles; their slides are to be done again"


def _recover(writer: Writer, _: Sequence[Finding]) -> Iterator[str]:
    recovered = recover(writer, Atlas.open(writer.uri))
    if recovered.mended:
        yield f"settled {len(recovered.mended)} slides in the ledger: {_some(recovered.mended)}"
    if recovered.withdrawn:
        yield f"withdrew {len(recovered.withdrawn)} slides: {_some(recovered.withdrawn)}"


def _withdraw(writer: Writer, findings: Sequence[Finding]) -> Iterator[str]:
    slide_ids = _subjects(findings)
    for some in _parts(slide_ids):
        where = one_of("slide_id", some)
        writer.delete("work", f"{where} AND status <> 'failed'")
        _take_out(writer, where)
        writer.delete("slides", where)
    yield f"withdrew {len(slide_ids)} slides, to be indexed again: {_some(slide_ids)}"


def _unsettle(writer: Writer, findings: Sequence[Finding]) -> Iterator[str]:
    by_model = sorted(findings, key=lambda finding: finding.model_id)
    for model_id, of_model in groupby(by_model, key=lambda finding: finding.model_id):
        slide_ids = _subjects(of_model)
        for some in _parts(slide_ids):
            mine = f"model_id = {quoted(model_id)} AND status <> 'failed'"
            writer.delete("work", f"{one_of('slide_id', some)} AND {mine}")
        yield f"took back what the ledger says of the model {model_id}: {_some(slide_ids)}"


def _delete_tiles(writer: Writer, findings: Sequence[Finding]) -> Iterator[str]:
    slide_ids = _subjects(findings)
    for some in _parts(slide_ids):
        where = one_of("slide_id", filter(None, some))
        where += " OR slide_id IS NULL" * ("" in some)
        _take_out(writer, where)
    yield f"deleted the tiles of {len(slide_ids)} slides that nobody knows: {_some(slide_ids)}"


def _deduplicate(writer: Writer, findings: Sequence[Finding]) -> Iterator[str]:
    for slide_id in _subjects(findings):
        tiles = Atlas.open(writer.uri).tiles
        where = f"slide_id = {quoted(slide_id)}" if slide_id else "slide_id IS NULL"
        rows = tiles.to_table(columns=["tile_id"], filter=where, with_row_id=True)
        seen: set[str] = set()
        extra = []
        for tile_id, row in zip(*rows.to_pydict().values(), strict=True):
            if tile_id in seen:
                extra.append(row)
            seen.add(tile_id)
        for some in _parts(extra):
            writer.delete("tiles", f"_rowid IN ({', '.join(map(str, some))})")
        yield f"removed {len(extra)} tiles of {slide_id or 'no slide'} that were there twice"


def _correct_columns(writer: Writer, findings: Sequence[Finding]) -> Iterator[str]:
    atlas = Atlas.open(writer.uri)
    columns = ["case_id", *atlas.columns.names]
    types = atlas.slides.schema
    slide_ids = _subjects(findings)
    for slide_id in slide_ids:
        where = f"slide_id = {quoted(slide_id)}"
        row = atlas.slides.to_table(columns=columns, filter=where).to_pylist()[0]
        values = {name: _literal(row[name], types.field(name).type) for name in columns}
        writer.update("tiles", values, where)
    yield f"wrote case and manifest columns of {len(slide_ids)} slides anew: {_some(slide_ids)}"


def _drop_indices(writer: Writer, findings: Sequence[Finding]) -> Iterator[str]:
    for subject in _subjects(findings):
        table, _, name = subject.partition(".")
        if table in TABLES:
            writer.transact(table, partial(_drop_index, name), unfenced=True)
        else:  # what is derived from a model's vectors
            drop = drop_mosaics if table == "mosaics" else drop_codes
            writer.check_lease()
            drop(writer.uri, name)
        yield f"dropped the index {name} of {table}; `microtome maintain` builds it again"


def _close_runs(_: Writer, findings: Sequence[Finding]) -> Iterator[str]:
    yield f"noted that {len(findings)} runs were interrupted: {_some(_subjects(findings))}"


Mend = Callable[[Writer, Sequence[Finding]], Iterator[str]]
IN_PLACE: Mapping[Remedy, Mend] = {
    "drop-damaged": _drop_damaged,
    "close-runs": _close_runs,
    "recover": _recover,
    "delete-tiles": _delete_tiles,
    "deduplicate": _deduplicate,
    "correct-columns": _correct_columns,
    "drop-index": _drop_indices,
}
"""In the order in which they are applied."""
LAST: Mapping[Remedy, Mend] = {"withdraw": _withdraw, "unsettle": _unsettle}


def _take_out(writer: Writer, where: str) -> None:
    writer.commit("tiles", lambda tiles: deletion(tiles, where))


def _drop_index(name: str, dataset: lance.LanceDataset) -> None:
    if any(index.name == name for index in dataset.describe_indices()):
        dataset.drop_index(name)


def _literal(value: Any, kind: pa.DataType) -> str:
    if value is None:
        names = {pa.string(): "string", pa.int64(): "bigint", pa.float64(): "double"}
        return f"CAST(NULL AS {names.get(kind, 'boolean')})"
    return quoted(value) if isinstance(value, str) else str(value).lower()


def _subjects(findings: Iterable[Finding]) -> list[str]:
    return sorted({finding.subject for finding in findings})


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
