"""Vectors of a set's images, made once and kept.

    images in chunks → kept from the last time? → read in threads → squares → model → keep

A chunk is kept as soon as it is made, so a run that was ended goes on where it was. What is kept is
known by the model's id, by how images are shown, and by each image's place, size and time: of an
image that changed, or another model, nothing is ever taken for this one's.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache as cache_of
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from microtome.datasets.labelled import read_image
from microtome.errors import SettingError
from microtome.evaluation.collection import Collection
from microtome.evaluation.views import VERSION, View
from microtome.models.encoder import Encoder
from microtome.slides.slide import Pixels
from microtome.slides.storage import filesystem_of

CHUNK: Final = 64
"""Images that are kept together; with 25 squares each, 240 MB of pixels on their way."""

BATCH: Final = 64
"""Squares per call of the model."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a model makes of a collection.

    Attributes:
        vectors: (N, D) float32, each of unit length.
        hashes: SHA-256 of each image's shape and pixels, hex; None where no pixels were seen.
    """

    vectors: NDArray[np.float32]
    hashes: tuple[str, ...] | None = None


def default_cache() -> Path:
    """Where vectors are kept unless the user names another folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "microtome" / "evaluation"


def embed(
    collection: Collection, encoder: Encoder, cache: Path, advance: Callable[[int], object] = int
) -> Embedded:
    """Vectors of a collection's images.

    Args:
        collection: of images, one at least.
        encoder: the model.
        cache: folder of what is kept; made where it is missing.
        advance: is told how many more images are done.

    Raises:
        SettingError: the folder can't be written to.
        ImageUnreadable: an image can't be read: a set that is not whole is not judged.
        ModelError: the model gives something that has no direction.
        ValueError: the collection has no images.
    """
    if collection.samples is None:
        raise ValueError(f"{collection.name} has no images")
    view = View.of(encoder.card, collection.mpp)
    seen_by = _SeenBy(encoder, view, cache_of(_version))
    rows = collection.samples.to_pylist()
    chunks = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    parts = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for place, found in _ahead(
            pool, ((seen_by.place(cache, one), one) for one in chunks), view
        ):
            part = found if isinstance(found, Embedded) else _keep(place, seen_by.embed(found))
            parts.append(part)
            advance(len(part.vectors))
    hashes = tuple(one for part in parts for one in part.hashes or ())
    return Embedded(np.concatenate([part.vectors for part in parts]), hashes)


def mean_directions(vectors: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """(N, D) mean of each run of `counts` unit vectors, again of unit length."""
    starts = np.cumsum([0, *counts[:-1]])
    sums = np.add.reduceat(vectors, starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    unit: NDArray[np.float32] = sums / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


_Read = tuple[Pixels, str]
"""Squares of an image, and the hash of its pixels."""


@dataclass(frozen=True, slots=True)
class _SeenBy:
    """A model, how images are shown to it, and what tells versions of a file apart."""

    encoder: Encoder
    view: View
    version_of: Callable[[str], tuple[int, str] | None]

    def place(self, cache: Path, rows: Sequence[dict[str, Any]]) -> Path:
        """Where a chunk's vectors are kept."""
        identity = {
            "model": self.encoder.card.model_id,
            "precision": str(getattr(self.encoder, "dtype", "")),
            "view": [VERSION, self.view.input_px, self.view.side_px],
            "images": [row | {"label": None, "file": self.version_of(row["uri"])} for row in rows],
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return cache / f"{key[:32]}.npz"

    def embed(self, images: Iterable[_Read]) -> Embedded:
        """Vectors of images whose squares were read."""
        squares, hashes = zip(*images, strict=True)
        every = np.concatenate(squares)
        batches = [every[start : start + BATCH] for start in range(0, len(every), BATCH)]
        vectors = np.concatenate([self.encoder.encode(one) for one in batches])
        return Embedded(mean_directions(vectors, [len(one) for one in squares]), hashes)


def _ahead(
    pool: ThreadPoolExecutor,
    chunks: Iterable[tuple[Path, list[dict[str, Any]]]],
    view: View,
) -> Iterator[tuple[Path, Embedded | Iterator[_Read]]]:
    """What is kept of each chunk, else its images; the next one is read while this one is used."""
    begun: deque[tuple[Path, Embedded | Iterator[_Read]]] = deque()
    for place, rows in chunks:
        begun.append((place, _kept(place) or pool.map(partial(_read, view), rows)))
        if len(begun) > 1:
            yield begun.popleft()
    yield from begun


def _read(view: View, row: Mapping[str, Any]) -> _Read:
    pixels = read_image(row)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return view.squares(pixels), digest


def _version(uri: str) -> tuple[int, str] | None:
    """How large a file is and when, or as which version, it was written; None where it is gone."""
    filesystem, path = filesystem_of(uri)
    try:
        info = filesystem.info(path)
    except Exception:  # noqa: BLE001 - whatever a store says; reading it will say it again, and why
        return None
    return info["size"], str(info.get("mtime") or info.get("ETag") or info.get("LastModified"))


def _kept(place: Path) -> Embedded | None:
    """What was kept; None where nothing was, or it is damaged and made anew."""
    try:
        with np.load(place, allow_pickle=False) as held:
            return Embedded(held["vectors"], tuple(held["hashes"].tolist()))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _keep(place: Path, part: Embedded) -> Embedded:
    """Write a chunk whole or not at all."""
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:  # gone if anything stops it
            whole = Path(folder, place.name)
            np.savez(whole, vectors=part.vectors, hashes=np.array(part.hashes))
            whole.replace(place)
    except OSError as error:
        raise SettingError(
            f"vectors can't be kept in {place.parent}: {error.strerror}",
            remedy="Name another folder with --cache.",
        ) from None
    return part
