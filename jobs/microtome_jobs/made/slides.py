"""An archive of made slides: stained tissue of known types, in two sites, with three bad files.

- lay the tissues out, coarsely (`layout`);
- render each region's stain over its bounding box and copy what lies inside (`textures`);
- colour the planes in the site's style (`stains`) and write the pyramid (`pyramid`);
- keep the layout as the truth (`truth`), and write the manifest.

Everything follows from the seed: two runs write the same bytes.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome_jobs.made.layout import CELL_PX, Region, arranged, drawn
from microtome_jobs.made.noise import fractal_noise
from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid
from microtome_jobs.made.stains import StainStyle, coloured
from microtome_jobs.made.structures import Stained
from microtome_jobs.made.textures import TISSUES
from microtome_jobs.made.truth import GLASS, Truth, save_truth

NAMES = (GLASS, *TISSUES)
"""What the numbers of a truth map stand for."""

SITES: Mapping[str, StainStyle] = {
    "north": StainStyle(haematoxylin=1.06, eosin=0.94, hue=0.02, glass=(243, 243, 245)),
    "south": StainStyle(haematoxylin=0.94, eosin=1.1, hue=-0.02, glass=(246, 243, 243)),
}
"""Two laboratories: one stains bluer, the other pinker on a warmer lamp."""

BLANK, TRUNCATED, WITHOUT_MPP = "blank", "truncated", "no-mpp"
_SLIDES_PER_CASE = 2
_SLIDES_AT_ONCE = 2  # half a gigabyte each at 8,192 px; OpenCV and NumPy release the GIL
_COLUMNS = ("uri", "slide_id", "case_id", "site", "stain", "thickness_um")


@dataclass(frozen=True, slots=True)
class MadeSpec:
    """How much to make.

    Attributes:
        seed: everything follows from it.
        slides: number of good slides, two per case.
        side_px: their side at 0.5 µm per pixel, a multiple of 128; the bad ones are a quarter of
            it, but at least 512.
        bad: whether to add a blank, a truncated and a slide without mpp.
    """

    seed: int = 0
    slides: int = 6
    side_px: int = 8192
    bad: bool = True

    def __post_init__(self) -> None:
        if self.slides < 1:
            raise ValueError(f"slides must be at least 1, not {self.slides}")
        if self.side_px < 512 or self.side_px % 128:
            raise ValueError(f"side_px must be a multiple of 128 from 512 on, not {self.side_px}")


@dataclass(frozen=True, slots=True)
class MadeArchive:
    """What was made.

    Attributes:
        folder: holds `SLIDE.svs`, `manifest.csv` and `truth/`.
        slide_ids: of the good slides.
        bad_ids: of the slides that can't be indexed as they are.
    """

    folder: Path
    slide_ids: tuple[str, ...]
    bad_ids: tuple[str, ...]

    @property
    def manifest(self) -> Path:
        """The manifest that names every slide, the bad ones too."""
        return self.folder / "manifest.csv"


@dataclass(frozen=True, slots=True)
class _Plan:
    """One slide to make."""

    slide_id: str
    case_id: str
    site: str
    side_px: int
    tissues: tuple[int, ...]

    def row(self) -> dict[str, object]:
        return {
            "uri": f"{self.slide_id}.svs",
            "slide_id": self.slide_id,
            "case_id": self.case_id,
            "site": self.site,
            "stain": "H&E",
            "thickness_um": 3.0 if self.site == "north" else 4.0,
        }


def make_slides(
    folder: Path, spec: MadeSpec = MadeSpec(), on_slide: Callable[[str], None] | None = None
) -> MadeArchive:
    """Fill a folder with slides, their manifest and their truth; files of the same name go.

    Args:
        folder: made if it isn't there.
        spec: seed, number and size.
        on_slide: called with each slide's id once its file is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    good, bad = _good(spec), _bad(spec) if spec.bad else []
    plans = [*good, *bad]
    seeds = np.random.SeedSequence(spec.seed).spawn(len(plans))  # the order of work is free
    maps = {}
    with ThreadPoolExecutor(_SLIDES_AT_ONCE) as pool:
        made = pool.map(_make, repeat(folder), plans, map(np.random.default_rng, seeds))
        for plan, cells in zip(plans, made, strict=True):
            maps[plan.slide_id] = cells
            if on_slide:
                on_slide(plan.slide_id)
    save_truth(folder, Truth(NAMES, CELL_PX, maps))
    archive = MadeArchive(
        folder, tuple(plan.slide_id for plan in good), tuple(plan.slide_id for plan in bad)
    )
    _write_manifest(archive.manifest, plans)
    return archive


def _good(spec: MadeSpec) -> list[_Plan]:
    """Two slides a case, the cases in turn from each site, the tissues moving on by one a slide.

    Four tissues of six on each slide put every tissue on four slides of six and in two cases.
    """
    kinds = len(TISSUES)
    per_slide = 4 if spec.side_px >= 2048 else 2
    plans = []
    for number in range(spec.slides):
        case, block = divmod(number, _SLIDES_PER_CASE)
        tissues = tuple(1 + (number + step) % kinds for step in range(per_slide))
        site = list(SITES)[case % len(SITES)]
        name = f"case{case + 1:02}"
        plans.append(_Plan(f"{name}-{'ab'[block]}", name, site, spec.side_px, tissues))
    return plans


def _bad(spec: MadeSpec) -> list[_Plan]:
    side_px = max(512, spec.side_px // 4 // 128 * 128)
    tissues = {BLANK: (), TRUNCATED: (1, 3), WITHOUT_MPP: (2, 5)}
    return [
        _Plan(slide_id, "case00", next(iter(SITES)), side_px, kinds)
        for slide_id, kinds in tissues.items()
    ]


def _make(folder: Path, plan: _Plan, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Write one slide; its tissue map, (rows, columns) uint8, is the answer."""
    path = folder / f"{plan.slide_id}.svs"
    regions = arranged(rng, plan.side_px, plan.tissues) if plan.tissues else []
    stained = _rendered(rng, plan.side_px, regions)
    style = _jittered(rng, SITES[plan.site])
    pyramid = PyramidSpec(mpp=None if plan.slide_id == WITHOUT_MPP else 0.5)
    write_pyramid(path, coloured(rng, stained.haematoxylin, stained.eosin, style), pyramid)
    if plan.slide_id == TRUNCATED:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size * 3 // 5)
    cells = plan.side_px // CELL_PX
    return drawn(regions, (cells, cells))


def _rendered(rng: np.random.Generator, side_px: int, regions: Sequence[Region]) -> Stained:
    """The slide's stain: each region's tissue over its bounding box, copied where it lies."""
    shape = (side_px, side_px)
    slide = Stained(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
    render = list(TISSUES.values())
    for region in regions:
        rows, columns = _bounds(region.cells)
        inside = _outlined(rng, region.cells[rows, columns])
        stained = render[region.tissue - 1](rng, inside.shape)
        window = (_pixels(rows), _pixels(columns))
        for whole, part in zip(slide, stained, strict=True):
            cv2.copyTo(part, inside, whole[window])
    return slide


def _bounds(cells: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that hold the region, and two cells around for its blurred edge."""
    rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    return (
        slice(max(int(rows[0]) - 2, 0), min(int(rows[-1]) + 3, cells.shape[0])),
        slice(max(int(columns[0]) - 2, 0), min(int(columns[-1]) + 3, cells.shape[1])),
    )


def _pixels(cells: slice) -> slice:
    return slice(cells.start * CELL_PX, cells.stop * CELL_PX)


def _outlined(rng: np.random.Generator, cells: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A region's mask in pixels, its edge rounded and roughened.

    The threshold lies below a half, so that neighbours overlap a little and no glass shows where
    three of them meet.
    """
    size = cells.shape[1] * CELL_PX, cells.shape[0] * CELL_PX
    soft = cv2.GaussianBlur(cells.astype(np.float32), (3, 3), 0.9)  # takes the steps away
    rough = fractal_noise(rng, (size[1], size[0]), 40)
    return (np.asarray(cv2.resize(soft, size)) > 0.3 + 0.06 * rough).astype(np.uint8)


def _jittered(rng: np.random.Generator, style: StainStyle) -> StainStyle:
    """The site's style as it came out on one day."""
    strength = rng.normal(1, 0.05, 2)
    return replace(
        style,
        haematoxylin=style.haematoxylin * strength[0],
        eosin=style.eosin * strength[1],
        hue=style.hue + rng.normal(0, 0.01),
    )


def _write_manifest(path: Path, plans: Sequence[_Plan]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(plan.row() for plan in plans)
