"""Forgetting slides: every row at once, every byte when the atlas is next maintained.

`forget` writes down, as hashes, what is to go (see `forgotten`), then takes it out, in this order:

1. its names, where settings of runs and messages about other slides mention them;
2. `work`: the ledger no longer claims it;
3. `tiles`;
4. `slides`, whose row goes last, since it names what else there is to do.

Whoever writes next does the same for whatever is recorded and still there (`finish`), so a killed
`forget` is finished, and nothing that was forgotten can stay for long however it came back.

The bytes go in `purge`: no older version can be opened after that, as each holds files with rows
of the slide in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import lance
import pyarrow as pa

from microtome.atlas.forgotten import Forgotten, Record, write_record
from microtome.atlas.objects import objects
from microtome.atlas.orphans import remove_leftovers
from microtome.atlas.rewriting import deletion, without_deleted
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.atlas.schema import TABLES
from microtome.atlas.sql import one_of, quoted
from microtome.atlas.tables import newest_table
from microtome.atlas.versions import drop_tags, every_tag
from microtome.atlas.writer import Writer
from microtome.errors import SettingError, SlideUnknown
from microtome.slides.slide import SlideRef

Rows = Sequence[Mapping[str, Any]]
FORGOTTEN = "(forgotten)"
DERIVED = ("_index", "_mosaics", "_embed", "_calibration")
"""Folders beside the tables that are made from vectors, and can be made again."""
_SPOKEN = frozenset({"model", "atlas"})
"""Settings that can't name a slide, and that other commands need."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be forgotten: a slide, or a case with all its slides.

    Attributes:
        slide_id: the slide.
        case_id: the case; one of the two is given.
    """

    slide_id: str | None = None
    case_id: str | None = None

    def __post_init__(self) -> None:
        if bool(self.slide_id) == bool(self.case_id):
            raise SettingError("name either a slide or a case", remedy="Pass --slide or --case.")

    def __str__(self) -> str:
        return f"slide {self.slide_id}" if self.slide_id else f"case {self.case_id}"


@dataclass(frozen=True, slots=True)
class Forgettable:
    """What an atlas holds of a subject.

    Attributes:
        rows: of `slides` and `work`: slide_id and, where no other slide has it, content_id.
        tiles: how many tiles there are of it.
        already: whether it was forgotten before, and nothing is left to do.
    """

    rows: Rows
    tiles: int
    already: bool = False

    @property
    def slide_ids(self) -> list[str]:
        """The slides, sorted."""
        return sorted({row["slide_id"] for row in self.rows})


def find(uri: str, subject: Subject) -> Forgettable:
    """What there is to forget.

    Of a case that may be nothing: slides that failed have no case in the atlas, and it is kept out.

    Raises:
        SlideUnknown: the atlas holds no such slide, and has not forgotten it either.
        AtlasError: a table can't be read.
    """
    rows = _rows_of(uri, subject)
    if rows:
        slide_ids = {row["slide_id"] for row in rows}
        return Forgettable(rows, newest_table(uri, "tiles").count_rows(_of(slide_ids)))
    if Forgotten.of(uri).names(subject.slide_id or "", case_id=subject.case_id):
        return Forgettable((), 0, already=True)
    if subject.case_id:
        return Forgettable((), 0)
    raise SlideUnknown(
        f"the atlas {uri} holds no {subject}",
        remedy=f"List its slides with `microtome slides --atlas {uri}`.",
    )


def _rows_of(uri: str, subject: Subject) -> Rows:
    """Its rows of `slides` and `work`, without the content ids that are another slide's."""
    slides, work = newest_table(uri, "slides"), newest_table(uri, "work")
    columns = ["slide_id", "content_id"]
    if subject.slide_id:
        where = f"slide_id = {quoted(subject.slide_id)}"
        rows = work.to_table(columns=[*columns, "status"], filter=where).to_pylist()
        for row in rows:
            if row["status"] == "failed":  # for one that was refused as a copy they are another's
                row["content_id"] = ""
    else:
        where, rows = f"case_id = {quoted(subject.case_id or '')}", []
    rows += slides.to_table(columns=columns, filter=where).to_pylist()
    contents = one_of("content_id", _values(rows, "content_id"))
    others = f"{contents} AND NOT {_of(_values(rows, 'slide_id'))}"
    shared = _values(slides.to_table(columns=columns, filter=others).to_pylist(), "content_id")
    return [row | {"content_id": ""} if row["content_id"] in shared else row for row in rows]


def forget(writer: Writer, subject: Subject) -> Forgettable:
    """Take every row of a slide, or of the slides of a case, out of all tables; after `recover`.

    Returns:
        What there was.

    Raises:
        SlideUnknown: the atlas holds no such slide.
        AtlasWriteFailed: the store refuses; what is recorded by then, the next writer finishes.
    """
    found = find(writer.uri, subject)
    if not found.already:
        run_id = start_run(writer, "forget", {})
        key = Forgotten.of(writer.uri).key
        write_record(writer.uri, Record.of(run_id, key, found.rows, subject.case_id))
        finish(writer)
        finish_run(writer, run_id, "finished", RunTotals())
    return found


def finish(writer: Writer) -> tuple[str, ...]:
    """Take out whatever was forgotten and is still, or again, there; returns the slides' ids.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    forgotten = Forgotten.of(writer.uri)
    if not forgotten:
        return ()
    columns = ["slide_id", "content_id", "uri"]
    slides = _rows(writer, "slides", [*columns, "case_id"])
    works = _rows(writer, "work", [*columns, "work_id"])
    leaving = forgotten.among(slides)
    gone = {row["slide_id"] for row in leaving}
    settled = [
        row
        for row in works
        if row["slide_id"] in gone or forgotten.names(row["slide_id"], row["content_id"])
    ]
    if not leaving and not settled:
        return ()
    _to_purge_again(writer, [*leaving, *settled])
    _scrub(writer, names_in([*leaving, *settled], forgotten))
    _take_out(writer, "work", one_of("work_id", (row["work_id"] for row in settled)))
    gone_tiles = gone | {row["slide_id"] for row in settled if forgotten.names(row["slide_id"])}
    _take_out(writer, "tiles", _of(gone_tiles))
    _take_out(writer, "slides", _of(gone))
    return tuple(sorted(gone_tiles))


def drop_ledger_rows(writer: Writer, refs: Iterable[SlideRef]) -> None:
    """Take out what the ledger says of the failures of slides that were forgotten.

    Only who wants a slide again knows the case of one that failed.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    cases = {ref.slide_id: ref.case_id for ref in refs}
    works = _rows(writer, "work", ["work_id", "slide_id", "content_id", "uri", "status"])
    failed = (row for row in works if row["slide_id"] in cases and row["status"] == "failed")
    forgotten = Forgotten.of(writer.uri)
    if rows := forgotten.among(row | {"case_id": cases[row["slide_id"]]} for row in failed):
        _to_purge_again(writer, rows)
        _scrub(writer, names_in(rows, forgotten))
        _take_out(writer, "work", one_of("work_id", (row["work_id"] for row in rows)))


def _to_purge_again(writer: Writer, rows: Rows) -> None:
    """What came back after a purge has bytes again."""
    for record in Forgotten.of(writer.uri).records:
        if record.purged_at and Forgotten([record]).among(rows):
            write_record(writer.uri, replace(record, purged_at=""))


def pending(uri: str) -> tuple[Record, ...]:
    """What was forgotten and whose bytes are still there; for `purge`."""
    return tuple(record for record in Forgotten.of(uri).records if not record.purged_at)


def purge(writer: Writer) -> tuple[Record, ...]:
    """Remove every byte of what was forgotten; afterwards only the newest version can be opened.

    Indices go too, as they hold vectors and names: they are to be built again.

    Returns:
        What was purged now; empty where nothing was left to do.

    Raises:
        AtlasWriteFailed: the store refuses; the next call begins again.
    """
    finish(writer)
    records = pending(writer.uri)
    if records:
        drop_tags(writer, every_tag(writer.uri))
        for folder in DERIVED:
            objects(writer.uri, folder, "what is derived from tiles").clear()
        for table in TABLES:
            _purge_table(writer, table)
        remove_leftovers(writer)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for record in records:
            write_record(writer.uri, replace(record, purged_at=now))
    return records


def _purge_table(writer: Writer, table: str) -> None:
    for index in {index.name for index in newest_table(writer.uri, table).describe_indices()}:
        writer.transact(table, partial(_drop_index, index), unfenced=True)
    if any(f.metadata.deletion_file for f in newest_table(writer.uri, table).get_fragments()):
        writer.commit(table, without_deleted)
    # The newest version keeps its own transaction, which must be one that says nothing.
    writer.fence(table)
    writer.transact(table, _drop_older_versions)


def _drop_index(name: str, dataset: lance.LanceDataset) -> None:
    if any(index.name == name for index in dataset.describe_indices()):
        dataset.drop_index(name)


def _drop_older_versions(dataset: lance.LanceDataset) -> None:
    # What was never committed is left to `orphans`: it may be a successor's, about to commit it.
    dataset.cleanup_old_versions(
        timedelta(0), delete_unverified=False, error_if_tagged_old_versions=False
    )


def _take_out(writer: Writer, table: str, where: str) -> None:
    if newest_table(writer.uri, table).count_rows(where):
        writer.commit(table, lambda dataset: deletion(dataset, where))


def names_in(rows: Rows, forgotten: Forgotten) -> re.Pattern[str]:
    """What rows that go are called: ids, places, and cases that were forgotten as such."""
    named: set[str] = set()
    for row in rows:
        place = row["uri"] or ""
        named |= {row["content_id"] or "", place, PurePosixPath(place).name}
        if forgotten.names(row["slide_id"]):
            named.add(row["slide_id"])
        if forgotten.names("", case_id=row.get("case_id")):
            named.add(row["case_id"])
    words = sorted(map(re.escape, named - {""}), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)" if words else "(?!)")


def _scrub(writer: Writer, names: re.Pattern[str]) -> None:
    """Take names out of what was said about other slides and of the settings of runs."""
    for table, key, column in (("work", "work_id", "message"), ("runs", "run_id", "settings")):
        dataset = newest_table(writer.uri, table)
        rows = dataset.to_table(columns=[key, column]).to_pylist()
        changed = [
            {key: row[key], column: scrubbed}
            for row in rows
            if (scrubbed := scrub(row[column], names)) != row[column]
        ]
        if changed:
            part = pa.schema([dataset.schema.field(key), dataset.schema.field(column)])
            writer.upsert(table, pa.Table.from_pylist(changed, schema=part), insert=False)


def scrub(text: str, names: re.Pattern[str]) -> str:
    """A message, or settings as JSON, without the names in it."""
    try:
        settings = json.loads(text)
    except ValueError:
        return names.sub(FORGOTTEN, text)
    return json.dumps(_scrubbed(settings, names), sort_keys=True) if names.search(text) else text


def _scrubbed(value: Any, names: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return FORGOTTEN if names.search(value) else value
    if isinstance(value, list):
        return [_scrubbed(each, names) for each in value]
    if isinstance(value, dict):
        return {
            key: each if key in _SPOKEN else _scrubbed(each, names) for key, each in value.items()
        }
    return value


def _rows(writer: Writer, table: str, columns: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        newest_table(writer.uri, table).to_table(columns=columns).to_pylist()
    )
    return rows


def _values(rows: Rows, column: str) -> set[str]:
    return {row[column] for row in rows}


def _of(slide_ids: Iterable[str]) -> str:
    return one_of("slide_id", slide_ids)
