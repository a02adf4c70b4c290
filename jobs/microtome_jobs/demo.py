"""The demo: make slides whose tissue is known, index them, and look for each tissue type.

    make → index → search → gallery

The made slides know the type of tissue at every place, so the demo can say how many hits are of
the query's own type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from microtome.atlas.atlas import Atlas
from microtome.config import IndexSettings
from microtome.engine.index import run_index
from microtome.engine.run import IndexSummary
from microtome.errors import SettingError
from microtome.search.gallery import write_gallery
from microtome.search.query import TileQuery
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from microtome_jobs.made.slides import MadeSpec, make_slides
from microtome_jobs.made.truth import Truth, load_truth
from microtome_jobs.overview import Answer, draw_overview

HITS = 8
PURE = 0.98  # least share of one tissue type in a tile that the demo asks with


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo did.

    Attributes:
        summary: of the indexing run.
        answers: one per tissue type.
        galleries: files with the hits as pictures.
    """

    summary: IndexSummary
    answers: tuple[Answer, ...]
    galleries: tuple[Path, ...]


def run_demo(folder: Path, spec: MadeSpec, say: Callable[[str], None]) -> Demo:
    """Make slides in `folder`, index them and search, telling each step to `say`.

    Raises:
        SettingError: nothing can be written there.
        MicrotomeError: see `run_index` and `Searcher.search`.
    """
    slides, atlas_folder = folder / "slides", folder / "atlas"
    say(f"making {spec.slides} slides of {spec.side_px:,} px in {slides}, and three bad ones")
    try:
        make_slides(slides, spec)
    except OSError as error:
        raise SettingError(
            f"the demo can't write to the folder {folder}: {error.strerror or error}",
            remedy="Name another with --folder.",
        ) from None
    say(f"indexing them into {atlas_folder}")
    summary = run_index(
        IndexSettings(
            sources=(str(slides),),
            atlas=str(atlas_folder),
            manifest=str(slides / "manifest.csv"),
        )
    )
    say("asking for each tissue type, leaving out the query's own slide")
    atlas, truth = Atlas.open(str(atlas_folder)), load_truth(slides)
    answers = tuple(ask(atlas, truth))
    overview = folder / "overview.png"
    draw_overview(overview, answers, atlas)
    galleries = [folder / f"{answer.tissue}.html" for answer in answers]
    for path, answer in zip(galleries, answers, strict=True):
        write_gallery(path, answer.result, atlas)
    return Demo(summary, answers, (overview, *galleries))


def ask(atlas: Atlas, truth: Truth) -> Iterable[Answer]:
    """Search with one pure tile of each tissue type."""
    searcher = Searcher(atlas)
    settings = SearchSettings(k=HITS, exclude="slide")
    for tissue, tile_id in sorted(pure_tiles(atlas, truth).items()):
        result = searcher.search(TileQuery(tile_id), settings)
        found = (truth.type_at(hit.slide_id, hit.x, hit.y, hit.size_px)[0] for hit in result.hits)
        yield Answer(tissue, result, tuple(found))


def pure_tiles(atlas: Atlas, truth: Truth) -> dict[str, str]:
    """For each tissue type the first tile, in the order of tile ids, that holds little else."""
    columns = ["tile_id", "slide_id", "x", "y", "size_px"]
    tiles = atlas.tiles.to_table(columns=columns).sort_by("tile_id").to_pylist()
    found: dict[str, str] = {}
    for tile in tiles:
        tissue, share = truth.type_at(tile["slide_id"], tile["x"], tile["y"], tile["size_px"])
        if share >= PURE:
            found.setdefault(tissue, tile["tile_id"])
    return found
