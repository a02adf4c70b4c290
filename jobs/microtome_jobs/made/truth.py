"""Which tissue lies where on made slides: the right answers to a search.

`truth/` holds one small PNG per slide, a pixel for each 32 × 32 level-0 pixels, and `truth.json`,
which names the tissues that the PNGs' numbers stand for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FOLDER = "truth"
GLASS = "glass"


@dataclass(frozen=True, slots=True)
class Truth:
    """The tissue of every place.

    Attributes:
        names: of the tissues; the first is glass.
        cell_px: side of a map's cell in level-0 pixels.
        maps: per slide id, (rows, columns) uint8, indices into `names`.
    """

    names: tuple[str, ...]
    cell_px: int
    maps: Mapping[str, NDArray[np.uint8]]

    def type_at(self, slide_id: str, x: int, y: int, size_px: int) -> tuple[str, float]:
        """The commonest tissue in a level-0 square, and its share of the square's area.

        Cells that the square cuts count by the part inside it. A square that leaves the slide
        counts what lies outside as glass; one without any tissue is `("glass", 1.0)`.

        Raises:
            KeyError: no such slide.
        """
        cells = self.maps[slide_id]
        down = self._covered(y, size_px, cells.shape[0])
        across = self._covered(x, size_px, cells.shape[1])
        area = np.bincount(
            cells.ravel(), weights=np.outer(down, across).ravel(), minlength=len(self.names)
        )
        commonest = 1 + int(area[1:].argmax())
        if not area[commonest]:
            return GLASS, 1.0
        return self.names[commonest], float(area[commonest] / size_px**2)

    def _covered(self, start_px: int, size_px: int, count: int) -> NDArray[np.float64]:
        """Length of [start, start + size) inside each of `count` cells, in pixels."""
        edges = np.clip(np.arange(count + 1) * self.cell_px, start_px, start_px + size_px)
        return np.diff(edges).astype(np.float64)


def save_truth(folder: Path, truth: Truth) -> None:
    """Write the truth into `folder/truth`."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    for slide_id, cells in truth.maps.items():
        cv2.imwrite(str(place / f"{slide_id}.png"), cells)
    facts = {"cell_px": truth.cell_px, "names": truth.names, "slides": sorted(truth.maps)}
    (place / "truth.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_truth(folder: Path) -> Truth:
    """Read the truth of a folder that `make_slides` filled.

    Raises:
        FileNotFoundError: there is none.
    """
    place = folder / FOLDER
    facts = json.loads((place / "truth.json").read_text(encoding="utf-8"))
    maps = {}
    for slide_id in facts["slides"]:
        cells = cv2.imread(str(place / f"{slide_id}.png"), cv2.IMREAD_UNCHANGED)
        if cells is None:
            raise FileNotFoundError(f"{FOLDER}/{slide_id}.png is missing or broken")
        maps[slide_id] = np.asarray(cells, dtype=np.uint8)
    return Truth(tuple(facts["names"]), facts["cell_px"], maps)
