"""Is a region found again, however it is turned? A part of `make bench-search`; alone, see --help.

Slides are laid out from labelled patches (`patch_slides`), no source image on two of them, and
indexed as usual. Queries are pictures cut off the grid around tissue, upright, turned by 90° and
by 30°, and mirrored. mIoU@5: the best intersection over union with the true place among the five
regions returned, mean over queries; IoU@1 that of the first. The baseline is the best tile only:
the query's middle laid on the middle of each of the five tiles that are most like its own middle.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import shapely
from patch_slides import PatchSlides
from PIL import Image

from microtome.atlas.atlas import Atlas
from microtome.config import MppSettings
from microtome.models.registry import load_encoder
from microtome.search.query import ImageQuery
from microtome.search.region_placement import Placement, iou, moved
from microtome.search.region_result import RegionSettings
from microtome.search.region_searcher import RegionSearcher
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from microtome.slides.opening import open_slide
from microtome.slides.slide import SlideRef

TURNS = {"0°": (0, False), "90°": (90, False), "30°": (30, False), "90°, mirrored": (90, True)}
SIDES_PX = (448, 672, 896, 1120, 1568)  # 2 to 7 tiles
ROWS = tuple(product(("regions", "best tile"), TURNS))
TISSUE = 0.8  # at least so much of a region's box is covered by stored tiles


@dataclass(frozen=True)
class Query:
    """A place of a slide.

    Attributes:
        slide_id: its slide.
        middle: x and y, px of 0.5 µm.
        size: width and height, px.
    """

    slide_id: str
    middle: tuple[float, float]
    size: tuple[int, int]

    @property
    def outline(self):
        """In its own frame."""
        width, height = self.size
        return shapely.box(-width / 2, -height / 2, width / 2, height / 2)


def drawn(atlas: Atlas, count: int, seed: int = 1) -> Iterator[Query]:
    """Regions of all sizes in turn, anywhere on tissue."""
    rng = np.random.default_rng(seed)
    tiles = atlas.tiles.to_table(columns=["slide_id", "x", "y"]).to_pandas()
    by_slide = dict(list(tiles.groupby("slide_id")))
    for number in range(count):
        width = SIDES_PX[number % len(SIDES_PX)]
        size = width, round(width * rng.uniform(0.75, 1.33))
        while True:
            slide_id = rng.choice(sorted(by_slide))
            rows = by_slide[slide_id]
            near = rows.iloc[rng.integers(len(rows))]
            x, y = near[["x", "y"]].to_numpy(float) + rng.uniform(0, 224, 2).round(1)
            inside = (abs(rows.x + 112 - x) < size[0] / 2) & (abs(rows.y + 112 - y) < size[1] / 2)
            if inside.sum() >= TISSUE * size[0] * size[1] / 224**2:
                yield Query(slide_id, (float(x), float(y)), size)
                break


def cut(atlas: Atlas, query: Query, angle_deg: float, flipped: bool) -> ImageQuery:
    """The picture that lies there when it is mirrored and turned so."""
    from support.patterned_atlas import turned_crop

    where = f"slide_id = '{query.slide_id}'"
    row = atlas.slides.to_table(columns=["uri"], filter=where).to_pylist()[0]
    reach = int(np.hypot(*query.size) / 2) + 2
    left, top = (int(v) - reach for v in query.middle)
    with open_slide(SlideRef(query.slide_id, row["uri"]), MppSettings()) as reader:
        around = reader.read_region(left, top, 0, 2 * reach, 2 * reach)
    middle = query.middle[0] - left, query.middle[1] - top
    file = io.BytesIO()
    Image.fromarray(turned_crop(around, middle, query.size, angle_deg, flipped)).save(file, "PNG")
    return ImageQuery("crop.png", file.getvalue())


def by_best_tile(searcher: Searcher, picture: ImageQuery, query: Query):
    """The baseline: the outline, never turned, around each of the tiles most like the middle."""
    image = Image.open(io.BytesIO(picture.data))
    left, top = (side // 2 - 112 for side in image.size)
    file = io.BytesIO()
    image.crop((left, top, left + 224, top + 224)).save(file, "PNG")
    hits = searcher.search(ImageQuery("middle.png", file.getvalue()), SearchSettings(k=5)).hits
    return [
        (hit.slide_id, moved(query.outline, Placement(hit.x + 112, hit.y + 112, 0, False)))
        for hit in hits
    ]


def run(atlas: Atlas, model: str, count: int) -> None:
    """Ask every query at every turn, and print the tables."""
    encoder = load_encoder(model)
    regions, tiles = RegionSearcher(atlas, encoder), Searcher(atlas, encoder)
    scores, costs = defaultdict(list), []
    for query in drawn(atlas, count):
        for name, (angle, flipped) in TURNS.items():
            picture = cut(atlas, query, angle, flipped)
            true = moved(query.outline, Placement(*query.middle, angle, flipped))
            started = time.process_time()
            result = regions.search(picture, RegionSettings(k=5))
            costs.append((time.process_time() - started, result.embedded))
            found = [(hit.slide_id, shapely.Polygon(hit.polygon)) for hit in result.hits]
            for method, places in (
                ("regions", found),
                ("best tile", by_best_tile(tiles, picture, query)),
            ):
                overlaps = [
                    iou(place, true) if slide_id == query.slide_id else 0.0
                    for slide_id, place in places
                ]
                best, first = max(overlaps, default=0.0), next(iter(overlaps), 0.0)
                scores[method, name, query.size[0]].append((best, first))
        _say(query, scores)
    _print(scores, costs, count)


def _say(query: Query, scores) -> None:
    """The last query's, for who waits: best of five, and first."""
    last = {f"{method}, {name}": scores[method, name, query.size[0]][-1] for method, name in ROWS}
    said = "; ".join(f"{name} {best:.3f} {first:.3f}" for name, (best, first) in last.items())
    print(f"{query.slide_id} {query.size}: {said}", file=sys.stderr, flush=True)


def _print(scores, costs, count: int) -> None:
    sides = " | ".join(f"{side} px" for side in SIDES_PX)
    print(f"\n| {count} queries | mIoU@5 | IoU@1 | found (IoU ≥ 0.5) | mIoU@5 of {sides} |")
    print(f"|---|---:|---:|---:|{'---:|' * len(SIDES_PX)}")
    for method, name in ROWS:
        of_side = [np.reshape(scores[method, name, side], (-1, 2)) for side in SIDES_PX]
        every = np.concatenate(of_side)
        best, first = every.mean(axis=0)
        sized = " | ".join(f"{part[:, 0].mean():.2f}" for part in of_side)
        found = (every[:, 0] >= 0.5).mean()
        print(f"| {method}, {name} | {best:.3f} | {first:.3f} | {found:.0%} | {sized} |")
    seconds, embedded = np.array(costs).T
    print(
        f"\nCPU seconds per query: median {np.median(seconds):.1f}, most {seconds.max():.1f}; "
        f"pictures embedded: median {np.median(embedded):.0f}, most {embedded.max():.0f}"
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Make slides and atlas where they are missing, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=Path, help="a folder of patches with manifest.csv")
    parser.add_argument("--folder", type=Path, help="for slides and atlas, kept")
    parser.add_argument("--model", default="tissue")
    parser.add_argument("--patch-px", type=int, default=448)
    parser.add_argument("--queries", type=int, default=40)
    asked = parser.parse_args(arguments)
    with nullcontext(asked.folder) if asked.folder else TemporaryDirectory() as folder:
        _made_and_run(asked, Path(folder))


def _made_and_run(asked: argparse.Namespace, folder: Path) -> None:
    data = asked.patches or Path(os.environ["MICROTOME_TEST_DATA"]) / "patches/lc25000_lung224"
    slides, atlas = folder / "slides", folder / "atlas"
    PatchSlides(data, patch_px=asked.patch_px).write(slides)
    if not atlas.exists():
        command = [str(Path(sys.executable).parent / "microtome"), "index", str(slides)]
        subprocess.run([*command, "--atlas", str(atlas), "--model", asked.model], check=True)
    opened = Atlas.open(str(atlas))
    facts = {"slides": opened.slides.count_rows(), "tiles": opened.tiles.count_rows()}
    print(json.dumps(facts | {"model": asked.model, "patch_px": asked.patch_px}))
    run(opened, asked.model, asked.queries)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))  # tests/support
    main(sys.argv[1:])
