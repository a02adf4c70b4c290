"""A labelled set of made patches: many random kinds of tissue, each in fields of its own stain.

Four patches are cut from each field, side by side and not overlapping. A field is a group, so
that a patch can be looked for in other fields only. Whole kinds are set apart, so that validation
and test ask for tissue that nothing was fitted to: of five kinds, three train.

Everything follows from the seed: two runs write the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product, repeat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome.config import check_whole
from microtome.errors import SettingError
from microtome_jobs.made.kinds import Kind, paint, random_kind, random_style
from microtome_jobs.made.stains import coloured

MANIFEST = "manifest.csv"
PER_FIELD = 4
MARGIN_PX = 64  # nuclei that would not fit whole are left out, so a field is thinner at its edge
JPEG_QUALITY = (60, 96)  # as slides are stored
SPLITS = ("train", "train", "train", "val", "test")
"""Of kinds in turn."""


@dataclass(frozen=True, slots=True)
class PatchSpec:
    """How much to make.

    Attributes:
        kinds: of tissue, the classes.
        per_kind: patches of each, four to a field.
        side_px: of a patch, at 0.5 µm per pixel.
        seed: everything follows from it.
    """

    kinds: int = 320
    per_kind: int = 16
    side_px: int = 192
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("kinds", self.kinds, least=2, most=100_000)
        check_whole("per_kind", self.per_kind, least=PER_FIELD, most=100_000)
        if self.per_kind % PER_FIELD:
            raise SettingError(
                f"per_kind must be a multiple of {PER_FIELD}, the patches of one field, "
                f"not {self.per_kind}"
            )
        check_whole("side_px", self.side_px, least=32, most=2048)
        check_whole("seed", self.seed, least=0)

    @property
    def fields(self) -> list[_Place]:
        """Every field, in order."""
        numbers = product(range(self.kinds), range(self.per_kind // PER_FIELD))
        return [_Place(kind, field) for kind, field in numbers]


@dataclass(frozen=True, slots=True)
class _Place:
    """A field's place in the set; all names follow from it."""

    kind: int
    field: int

    @property
    def label(self) -> str:
        return f"kind{self.kind:04}"

    @property
    def group(self) -> str:
        return f"{self.label}-{self.field:02}"

    def rows(self, jpegs: Sequence[bytes]) -> list[tuple[str, ...]]:
        """Path, label, group, split and sha256 of its patches."""
        split = SPLITS[self.kind % len(SPLITS)]
        return [
            (self.path(number), self.label, self.group, split, hashlib.sha256(jpeg).hexdigest())
            for number, jpeg in enumerate(jpegs)
        ]

    def path(self, number: int) -> str:
        return f"{self.label}/{self.field:02}-{number}.jpg"


def make_patches(
    folder: Path, spec: PatchSpec = PatchSpec(), on_field: Callable[[], object] | None = None
) -> Path:
    """Fill a folder with patches and a manifest; files of the same name go.

    Args:
        folder: made if it isn't there.
        spec: how much.
        on_field: called after each field.

    Returns:
        The manifest: path, label, group, split, sha256.

    Raises:
        OSError: nothing can be written there.
    """
    for kind in range(spec.kinds):
        (folder / _Place(kind, 0).label).mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, ...]] = []
    # Spawned: a forked child inherits locks of threads that it hasn't.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        made = pool.map(field_jpegs, repeat(spec), spec.fields, chunksize=8)
        for place, jpegs in zip(spec.fields, made, strict=True):
            for number, jpeg in enumerate(jpegs):
                (folder / place.path(number)).write_bytes(jpeg)
            rows += place.rows(jpegs)
            if on_field:
                on_field()
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "group", "split", "sha256"), *rows])
    return folder / MANIFEST


def field_jpegs(spec: PatchSpec, place: _Place) -> list[bytes]:
    """The patches of one field, compressed."""
    cv2.setNumThreads(1)  # each field has a core of its own
    kind = random_kind(np.random.default_rng([spec.seed, 0, place.kind]))
    rng = np.random.default_rng([spec.seed, 1, place.kind, place.field])
    field = painted(rng, kind, 2 * spec.side_px)
    quality = int(rng.integers(*JPEG_QUALITY))
    return [_jpeg(patch, quality) for patch in _quarters(field)]


def painted(rng: np.random.Generator, kind: Kind, side_px: int) -> NDArray[np.uint8]:
    """A field of a kind in a random stain: (side_px, side_px, 3) uint8 RGB."""
    whole = side_px + 2 * MARGIN_PX
    inner = slice(MARGIN_PX, MARGIN_PX + side_px)
    haematoxylin, eosin = (
        np.ascontiguousarray(plane[inner, inner]) for plane in paint(rng, kind, (whole, whole))
    )
    return coloured(rng, haematoxylin, eosin, random_style(rng))


def _quarters(field: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    side = len(field) // 2
    return [field[y : y + side, x : x + side] for y in (0, side) for x in (0, side)]


def _jpeg(patch: NDArray[np.uint8], quality: int) -> bytes:
    _, jpeg = cv2.imencode(".jpg", patch[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()
