"""Where an index of codes lies: `_index/<model id>/<number>/`, beside the tables; see `derived`.

`codes.faiss`   the codes
`index.json`    what they are, with the hash of the codes

A reader reads all of it into memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from microtome.atlas.derived import Derived, IndexUnusable, read_card, sha256_of
from microtome.atlas.index_codes import Codes

FOLDER = "_index"
FORMAT = 1
CODES = "codes.faiss"
CARD = "index.json"


@dataclass(frozen=True, slots=True)
class IndexCard:
    """What an index of codes is.

    Attributes:
        model_id: whose vectors it codes.
        number: of its folder.
        tiles_version: the version of `tiles` it was brought up to.
        rows: how many it codes.
        trained_rows: how many there were when its centroids were found.
        lists: see `CodePlan`.
        bits: see `CodePlan`.
        probes: see `CodePlan`.
        files: data files of `tiles` whose vectors it has all seen: those that are null stay null.
        witnesses: tile id by row id, of a few rows; a table that says otherwise is another one.
        size_bytes: of the codes.
        sha256: of the codes.
        format: of these files.
    """

    model_id: str
    number: int
    tiles_version: int
    rows: int
    trained_rows: int
    lists: int
    bits: int
    probes: int
    files: tuple[str, ...] = field(repr=False)
    witnesses: dict[int, str] = field(repr=False)
    size_bytes: int = 0
    sha256: str = ""
    format: int = FORMAT

    @classmethod
    def from_json(cls, text: bytes) -> IndexCard:
        """Read a card.

        Raises:
            IndexUnusable: it is damaged, or of another format.
        """

        def made(files: list[str], **others: Any) -> IndexCard:
            return cls(files=tuple(files), **others)

        return read_card(made, text, CARD, FORMAT)


def newest_card(uri: str, model_id: str) -> IndexCard | None:
    """The card of a model's index; None where there is none.

    Raises:
        IndexUnusable: the card can't be read.
    """
    text = _kind(uri).newest_card(model_id)
    return None if text is None else IndexCard.from_json(text)


def read_codes(uri: str, card: IndexCard) -> Codes:
    """The codes a card speaks of.

    Raises:
        IndexUnusable: they are missing or damaged, or the store refuses.
    """
    with _kind(uri).local(card.model_id, card.number, CODES) as path:
        if sha256_of(path) != card.sha256:
            raise IndexUnusable(f"its {CODES} is damaged")
        try:
            codes = Codes.read(path)
        except ValueError as error:
            raise IndexUnusable(str(error)) from None
    if (len(codes), codes.lists) != (card.rows, card.lists):
        raise IndexUnusable(f"its {CODES} is not what its {CARD} says")
    return codes


def write_index(
    uri: str, card: IndexCard, codes: Codes, may_publish: Callable[[], None] = lambda: None
) -> IndexCard:
    """Store an index under the next number, durably; it is the newest in one atomic step.

    Args:
        uri: of the atlas.
        card: what it is.
        codes: what it holds.
        may_publish: called before that step; raises where another job took over meanwhile.

    Returns:
        The card as it was written, with number, size and hash.

    Raises:
        AtlasWriteFailed: the disk is full, or the store refuses; the index before it stays.
    """
    with _kind(uri).draft(card.model_id) as draft:
        path = draft.folder / CODES
        codes.write(path)
        facts = asdict(card) | {
            "number": draft.number,
            "size_bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        draft.publish([CODES], json.dumps(facts), may_publish)
    return IndexCard(**facts)


def drop_index(uri: str, model_id: str, *, before: int | None = None) -> int:
    """Delete every stored index of a model, or those of a lower number; returns how many.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    return _kind(uri).drop(model_id, before=before)


def remove_leftovers(uri: str) -> int:
    """Delete what a killed job left of an index it wrote; only under the lease. Returns how many.

    What it left in numbered folders goes when the next index is complete.
    """
    return _kind(uri).remove_leftovers()


def _kind(uri: str) -> Derived:
    return Derived(uri, FOLDER, CARD, "the search index")
