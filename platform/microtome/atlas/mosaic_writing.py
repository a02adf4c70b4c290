"""Writing the mosaics of all slides, and the vocabularies of many; see `mosaic_files`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atlas.derived import Draft, sha256_of
from microtome.atlas.mosaic import Mosaic, unit
from microtome.atlas.mosaic_files import (
    ARRAYS,
    COLUMNS,
    LEAST_SLIDES,
    SLIDES,
    VECTORS,
    WORD_PARTS,
    MosaicsCard,
    kind,
    word_files,
)
from microtome.atlas.words import Words

_HEADER_BYTES = 128


def write_mosaics(
    uri: str,
    card: MosaicsCard,
    mosaics: Iterable[tuple[str, Mosaic]],
    may_publish: Callable[[], None] = lambda: None,
    least_slides: int = LEAST_SLIDES,
) -> MosaicsCard:
    """Store mosaics under the next number, durably; they are the newest in one atomic step.

    Args:
        uri: of the atlas.
        card: what they are; numbers and hashes are filled in.
        mosaics: slide id and mosaic of each slide, at least one.
        may_publish: called before that step; raises where another job took over meanwhile.
        least_slides: of fewer there are no vocabularies.

    Raises:
        AtlasWriteFailed: the disk is full, or the store refuses; those before them stay.
    """
    with kind(uri).draft(card.model_id) as draft:
        slides, vectors = _write_arrays(draft, mosaics)
        if slides >= least_slides:
            _write_words(draft)
        names = sorted(path.name for path in draft.folder.iterdir())
        facts = asdict(card) | {
            "number": draft.number,
            "slides": slides,
            "vectors": vectors,
            "files": {name: sha256_of(draft.folder / name) for name in names},
        }
        draft.publish(names, json.dumps(facts), may_publish)
    return MosaicsCard(**facts)


def write_card(card: MosaicsCard, uri: str, may_publish: Callable[[], None]) -> None:
    """Say something else of stored mosaics, which stay as they are.

    Args:
        card: of the same number and files.
        uri: of the atlas.
        may_publish: see `write_mosaics`.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    with kind(uri).draft(card.model_id) as draft:
        same = replace(draft, number=card.number)
        same.publish([], json.dumps(asdict(card)), may_publish)


def _write_arrays(draft: Draft, mosaics: Iterable[tuple[str, Mosaic]]) -> tuple[int, int]:
    """Write all but the vocabularies; returns how many slides and representatives there are."""
    slides: list[tuple[str, int, int, int]] = []
    rest: list[tuple[NDArray[Any], ...]] = []
    first = 0
    with (draft.folder / VECTORS).open("wb") as file:
        file.write(bytes(_HEADER_BYTES))
        for slide_id, mosaic in mosaics:
            data = mosaic.vectors.astype("<f2").tobytes()
            file.write(data)
            slides.append((slide_id, first, mosaic.tiles, zlib.crc32(data)))
            rest.append((mosaic.row_ids, mosaic.weights, mosaic.mean[None]))
            first += len(mosaic)
        file.seek(0)
        _write_header(file, (first, mosaic.vectors.shape[1]))
    for name, parts in zip(ARRAYS, zip(*rest, strict=True), strict=True):
        np.save(draft.folder / f"{name}.npy", np.concatenate(parts), allow_pickle=False)
    columns = [
        pa.array(c, t) for c, t in zip(zip(*slides, strict=True), COLUMNS.types, strict=True)
    ]
    with pa.ipc.new_file(str(draft.folder / SLIDES), COLUMNS) as out:
        out.write_table(pa.Table.from_arrays(columns, schema=COLUMNS))
    return len(slides), first


def _write_header(file: BinaryIO, shape: tuple[int, int]) -> None:
    """The header of an .npy file; numpy pads it, so that it has one length for all shapes."""
    facts = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)
    assert file.tell() == _HEADER_BYTES, "numpy pads its headers otherwise"  # noqa: S101


def _write_words(draft: Draft) -> None:
    _write_vocabulary(draft, "vector", np.load(draft.folder / VECTORS, mmap_mode="r"))
    _write_vocabulary(draft, "mean", np.load(draft.folder / "means.npy"))


def _write_vocabulary(draft: Draft, name: str, vectors: NDArray[np.float16]) -> None:
    words = Words.of(lambda places: unit(vectors[places]), len(vectors))
    for part, file in zip(WORD_PARTS, word_files(name), strict=True):
        np.save(draft.folder / file, getattr(words, part), allow_pickle=False)
