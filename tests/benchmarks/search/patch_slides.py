"""Slides laid out from labelled patches: real pixels, made layout.

Each slide takes whole groups of patches (all that were cut from one source image, with their turned
and mirrored copies), so nothing on one slide is on another. Its patches lie in square blocks of one
group after the other, some places left as glass, from a corner that is on nobody's grid.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microtome_jobs.made.pyramid import write_pyramid

GLASS = 243
BLOCK = 3  # patches a side
WIDE = 4  # blocks a row
EMPTY = 0.25  # of the blocks' places


@dataclass(frozen=True)
class PatchSlides:
    """How slides are made of patches.

    Attributes:
        patches: a folder with `manifest.csv`: path, label, group.
        slides: how many share them out.
        patch_px: side that a patch is brought to.
        seed: everything follows from it.
    """

    patches: Path
    slides: int = 52
    patch_px: int = 448
    seed: int = 0

    def write(self, folder: Path) -> list[Path]:
        """Write `slide-00.svs` and so on, 0.5 µm per pixel; those that are there stay."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for number, files in enumerate(self._shared_out()):
            path = folder / f"slide-{number:02}.svs"
            if not path.exists():
                write_pyramid(path, self._pixels(number, files))
            written.append(path)
        return written

    def _shared_out(self) -> list[list[Path]]:
        """The patches of each slide, whole groups dealt out, the fullest groups first."""
        groups = defaultdict(list)
        with (self.patches / "manifest.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                groups[row["label"], row["group"]].append(self.patches / row["path"])
        slides: list[list[Path]] = [[] for _ in range(self.slides)]
        for _, files in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
            min(slides, key=len).extend(files)
        return slides

    def _pixels(self, number: int, files: list[Path]) -> NDArray[np.uint8]:
        rng, side = np.random.default_rng([self.seed, number]), self.patch_px
        places = list(self._places(rng, len(files)))
        origin = side + rng.integers(0, side, 2)
        rows, columns = np.max(places, axis=0) + 1
        canvas = np.full((side * (rows + 3), side * (columns + 3), 3), GLASS, np.uint8)
        for (row, column), file in zip(places, files, strict=True):
            y, x = origin + side * np.array([row, column])
            with Image.open(file) as image:
                patch = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            canvas[y : y + side, x : x + side] = patch
        return canvas

    def _places(self, rng: np.random.Generator, count: int) -> Iterator[tuple[int, int]]:
        """Row and column of each patch, block by block."""
        blocks = -(-count // BLOCK**2)
        room = math.ceil(blocks / (1 - EMPTY))
        taken = np.sort(rng.permutation(room)[:blocks])
        inside = list(product(range(BLOCK), repeat=2))
        cells = chain.from_iterable(
            ((block // WIDE * BLOCK + y, block % WIDE * BLOCK + x) for y, x in inside)
            for block in taken.tolist()
        )
        return (cell for cell, _ in zip(cells, range(count), strict=False))
