"""The mosaics of all slides, opened.

All but the vectors is read at once and held against its hash. The vectors are mapped, and those of
a slide are held against their checksum when they are first used.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.derived import IndexUnusable, sha256_of
from microtome.atlas.mosaic import Vectors, lengths
from microtome.atlas.mosaic_files import (
    ARRAYS,
    CARD,
    SLIDES,
    VECTORS,
    VOCABULARIES,
    MosaicsCard,
    kind,
    newest_card,
    word_files,
)
from microtome.atlas.words import Words


class StoredMosaics:
    """The mosaics of all slides, as they lie in their files; safe to use from many threads.

    Attributes:
        card: what they are.
        slide_ids: (S,) of text.
        firsts: (S + 1,) int64: the representatives of slide s are those from its first to the next.
        tiles: (S,) int64, how many each slide's stand for.
        row_ids: (M,) int64.
        weights: (M,) int32.
        means: (S, D) float32; widened once, as that costs far more than to compare them.
        mean_lengths: (S,) theirs, ready to divide by.
        words: by name, those of the representatives (`vector`) and of the means (`mean`).
    """

    def __init__(self, card: MosaicsCard, folder: Callable[[str], Path]) -> None:
        """Open files whose paths `folder` gives, by name.

        Raises:
            IndexUnusable: one is missing or damaged.
        """
        self.card = card
        try:
            self._read(folder)
        except (OSError, ValueError, KeyError):  # a newer one may take its place at any moment
            raise IndexUnusable("its files are gone, or damaged") from None

    def _read(self, folder: Callable[[str], Path]) -> None:
        card = self.card
        for name, digest in card.files.items():
            if name != VECTORS and sha256_of(folder(name)) != digest:
                raise IndexUnusable(f"its {name} is damaged")
        with pa.memory_map(str(folder(SLIDES))) as file:
            slides = pa.ipc.open_file(file).read_all()
        self.slide_ids: NDArray[Any] = slides["slide_id"].to_numpy()
        self.tiles: NDArray[np.int64] = slides["tiles"].to_numpy()
        self._crc = slides["crc"].to_numpy()
        self._known = np.zeros(len(slides), np.bool_)  # slides whose checksum was found right
        self.row_ids, self.weights, means = (_load(folder(f"{name}.npy")) for name in ARRAYS)
        self.means: Vectors = means.astype(np.float32)
        self.mean_lengths = lengths(self.means)
        self.firsts = np.append(slides["first"].to_numpy(), len(self.row_ids))
        try:
            self._vectors: NDArray[np.float16] = np.load(folder(VECTORS), mmap_mode="r")
        except ValueError:
            raise IndexUnusable(f"its {VECTORS} is damaged") from None
        if self._vectors.shape != (card.vectors, self.means.shape[1]):
            raise IndexUnusable(f"its {VECTORS} is not what its {CARD} says")
        self.words = {
            name: Words(*(_load(folder(file)) for file in word_files(name)))
            for name in VOCABULARIES
            if word_files(name)[0] in card.files
        }

    def __len__(self) -> int:
        return len(self.slide_ids)

    @cached_property
    def owners(self) -> NDArray[np.int32]:
        """(M,): the number of the slide that each representative is of."""
        return np.arange(len(self), dtype=np.int32).repeat(np.diff(self.firsts))

    def vectors(self, slides: NDArray[np.int64]) -> NDArray[np.float16]:
        """The vectors of all representatives of some slides, one slide after the other.

        Raises:
            IndexUnusable: they are damaged.
        """
        parts = [self._vectors[self.firsts[s] : self.firsts[s + 1]] for s in slides.tolist()]
        for slide, part in zip(slides.tolist(), parts, strict=True):
            if not self._known[slide]:
                if zlib.crc32(part.data) != self._crc[slide]:
                    raise IndexUnusable(f"its {VECTORS} is damaged")
                self._known[slide] = True
        return np.concatenate([self._vectors[:0], *parts])


def open_mosaics(
    uri: str, model_id: str, known: StoredMosaics | None = None
) -> StoredMosaics | None:
    """The stored mosaics of a model; None where there are none.

    Args:
        uri: of the atlas.
        model_id: whose vectors they are made of.
        known: some that were opened before, and are returned where they are still the newest.

    Raises:
        IndexUnusable: they lack a part, are damaged or of another format, or the store refuses.
    """
    card = newest_card(uri, model_id)
    if card is None:
        return None
    if known is not None and known.card == card:
        return known
    try:
        return _read(uri, card)
    except IndexUnusable:
        newer = newest_card(uri, model_id)  # replaced while they were read
        if newer is None or newer.number == card.number:
            raise
        return _read(uri, newer)


def _read(uri: str, card: MosaicsCard) -> StoredMosaics:
    with ExitStack() as copies:  # of files in a store; what is mapped stays until it is let go

        def folder(name: str) -> Path:
            if name not in paths:
                local = kind(uri).local(card.model_id, card.number, name)
                paths[name] = copies.enter_context(local)
            return paths[name]

        paths: dict[str, Path] = {}
        return StoredMosaics(card, folder)


def _load(path: Path) -> NDArray[Any]:
    loaded: NDArray[Any] = np.load(path, allow_pickle=False)
    return loaded
