"""What was forgotten, as hashes: enough to keep it out, too little to say who it was.

A record lies in `_forgotten/<run id>.json` and is written before the first row goes, so a killed
`forget` is finished by whoever writes next. It holds no name: slides, their bytes and cases stand
in it as keyed hashes, and whether a row is meant is asked by hashing the row. Whoever holds the
key can still test a guess, so the records are to be guarded like the atlas they lie in.

Records are no table, because nothing may ever roll them back.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from microtome.atlas.objects import Objects, objects
from microtome.errors import AtlasError

FOLDER = "_forgotten"
Kind = Literal["slide", "content", "case"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One `forget`.

    Attributes:
        run_id: the run that forgot; the object's name.
        forgotten_at: when, ISO 8601.
        key: of the hashes, hex; all records of an atlas share it.
        slides: hashes of slide ids.
        contents: hashes of content ids.
        cases: hashes of case ids.
        purged_at: when the last byte went, ISO 8601; empty until then.
    """

    run_id: str
    forgotten_at: str
    key: str
    slides: tuple[str, ...]
    contents: tuple[str, ...]
    cases: tuple[str, ...] = ()
    purged_at: str = ""

    @classmethod
    def of(
        cls, run_id: str, key: str, rows: Iterable[Mapping[str, str]], case_id: str | None
    ) -> Record:
        """A record of slides, rows with `slide_id` and `content_id`, and of the case, if any."""
        rows = list(rows)
        contents = {row["content_id"] for row in rows if row["content_id"]}
        return cls(
            run_id=run_id,
            forgotten_at=datetime.now(UTC).isoformat(timespec="seconds"),
            key=key,
            slides=_hashes(key, "slide", (row["slide_id"] for row in rows)),
            contents=_hashes(key, "content", contents),
            cases=_hashes(key, "case", [case_id] if case_id else []),
        )


class Forgotten:
    """Everything an atlas has forgotten, as it was when this was read."""

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self.records = tuple(records)
        self._hashes: dict[str, set[str]] = {}
        for record in records:
            known = self._hashes.setdefault(record.key, set())
            known.update(record.slides, record.contents, record.cases)

    @classmethod
    def of(cls, uri: str) -> Forgotten:
        """What the atlas at a URI has forgotten.

        Raises:
            AtlasError: the store refuses, or a record is damaged.
        """
        store = _records(uri)
        return cls([_read(uri, name, store.get(name)) for name in sorted(store.names())])

    def __bool__(self) -> bool:
        return bool(self.records)

    @property
    def key(self) -> str:
        """The key for a further record."""
        return self.records[0].key if self.records else secrets.token_hex(32)

    def names(self, slide_id: str, content_id: str = "", case_id: str | None = None) -> bool:
        """Whether a slide was forgotten: by its id, its bytes or its case."""
        asked: list[tuple[Kind, str]] = [
            ("slide", slide_id),
            ("content", content_id),
            ("case", case_id or ""),
        ]
        return any(
            _hash(key, kind, value) in known
            for key, known in self._hashes.items()
            for kind, value in asked
            if value
        )

    def among(self, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those of some rows, of `slides` or `work`, that were forgotten."""
        if not self:
            return []
        return [
            row
            for row in rows
            if self.names(row["slide_id"], row["content_id"] or "", row.get("case_id"))
        ]


def is_forgotten(uri: str, slide_id: str, content_id: str = "", case_id: str | None = None) -> bool:
    """Whether one slide may not be indexed again; to ask about many, keep a `Forgotten`."""
    return Forgotten.of(uri).names(slide_id, content_id, case_id)


def write_record(uri: str, record: Record) -> None:
    """Write a record over what lies there under its run.

    Raises:
        AtlasWriteFailed: the store refuses the write.
    """
    text = json.dumps(asdict(record), indent=1)
    _records(uri).put(f"{record.run_id}.json", text.encode())


def _records(uri: str) -> Objects:
    return objects(uri, FOLDER, "the record of what was forgotten")


def _read(uri: str, name: str, data: bytes | None) -> Record:
    try:
        facts: dict[str, Any] = json.loads(data or b"")
        hashes = {kind: tuple(facts[kind]) for kind in ("slides", "contents", "cases")}
        return Record(**(facts | hashes))
    except (ValueError, TypeError, KeyError):
        raise AtlasError(
            f"the record {FOLDER}/{name} of the atlas {uri} is damaged",
            remedy="Restore it from a backup: without it a forgotten slide could come back.",
        ) from None


def _hashes(key: str, kind: Kind, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({_hash(key, kind, value) for value in values}))


def _hash(key: str, kind: Kind, value: str) -> str:
    person = kind.encode()
    return hashlib.blake2b(
        value.encode(), digest_size=32, key=bytes.fromhex(key), person=person
    ).hexdigest()
