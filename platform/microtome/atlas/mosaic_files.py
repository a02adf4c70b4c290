"""Where the mosaics of all slides lie: `_mosaics/<model id>/<number>/`, beside the tables.

`slides.arrow`    per slide: its id, where its representatives begin in the arrays below, how many
                  tiles they stand for, and a checksum of their vectors
`vectors.npy`     (M, D) float16, the vectors of all representatives, slide by slide
`row_ids.npy`     (M,) int64, their rows in `tiles`
`weights.npy`     (M,) int32, how many tiles each stands for
`means.npy`       (S, D) float16, the mean vector of each slide
`<name>-*.npy`    the vocabularies, see `words`: `vector` of representatives, `mean` of means
`mosaics.json`    the card, see `derived`: what they are, with the hash of each file
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from microtome.atlas.derived import Derived, read_card

FOLDER = "_mosaics"
FORMAT = 2
CARD = "mosaics.json"
SLIDES = "slides.arrow"
VECTORS = "vectors.npy"
ARRAYS = ("row_ids", "weights", "means")
VOCABULARIES = ("vector", "mean")
WORD_PARTS = ("topics", "topic_starts", "words", "word_starts", "members")
LEAST_SLIDES = 1024
"""Of fewer slides there are no vocabularies: all are compared."""

COLUMNS = pa.schema(
    [("slide_id", pa.string()), ("first", pa.int64()), ("tiles", pa.int64()), ("crc", pa.uint32())]
)


@dataclass(frozen=True, slots=True)
class MosaicsCard:
    """What stored mosaics are.

    Attributes:
        model_id: whose vectors they are made of.
        number: of their folder.
        tiles_version: the version of `tiles` they were brought up to.
        slides: how many.
        vectors: how many representatives they have together.
        witnesses: tile id by row id, of a few rows; a table that says otherwise is another one.
        sources: the files of `tiles` that held the vectors they are made of.
        files: the hash of each file.
        format: of these files.
    """

    model_id: str
    number: int
    tiles_version: int
    slides: int
    vectors: int
    witnesses: dict[int, str] = field(repr=False)
    sources: list[str] = field(repr=False)
    files: dict[str, str] = field(repr=False)
    format: int = FORMAT

    @classmethod
    def from_json(cls, text: bytes) -> MosaicsCard:
        """Read a card.

        Raises:
            IndexUnusable: it is damaged, or of another format.
        """
        return read_card(cls, text, CARD, FORMAT)


def newest_card(uri: str, model_id: str) -> MosaicsCard | None:
    """The card of a model's mosaics; None where there are none.

    Raises:
        IndexUnusable: the card can't be read.
    """
    text = kind(uri).newest_card(model_id)
    return None if text is None else MosaicsCard.from_json(text)


def kind(uri: str) -> Derived:
    """The folders of mosaics of an atlas."""
    return Derived(uri, FOLDER, CARD, "the mosaics of slides")


def drop_mosaics(uri: str, model_id: str, *, before: int | None = None) -> int:
    """Delete the stored mosaics of a model, or those of a lower number; returns how many folders.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    return kind(uri).drop(model_id, before=before)


def word_files(name: str) -> list[str]:
    """The files of one vocabulary, one for each of `WORD_PARTS`."""
    return [f"{name}-{part}.npy" for part in WORD_PARTS]
