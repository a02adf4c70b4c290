"""Results of any level as sheets: pictures from the slides, and words beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from microtome.atlas.atlas import Atlas
from microtome.rows import beside
from microtome.search.exclusion import GROUP
from microtome.search.maps import read_maps
from microtome.search.pictures import Picture, read_pictures
from microtome.search.query import SlideQuery
from microtome.search.region_result import RegionResult
from microtome.search.region_sheet import region_sheet
from microtome.search.result import Hit, SearchResult
from microtome.search.sheet import Card, Sheet
from microtome.search.slide_result import SlideHit, SlideResult

MAX_HITS: Final = 200
"""A sheet of more is read by nobody; the hits themselves are all in the result."""

Result = SearchResult | RegionResult | SlideResult


def make_sheet(result: Result, atlas: Atlas) -> Sheet:
    """Read the pictures of a search in an atlas and put into words what stands beside them."""
    match result:
        case SearchResult():
            return _of_tiles(result, atlas)
        case RegionResult():
            return region_sheet(result, atlas)
        case SlideResult():
            return _of_slides(result, atlas)


def _of_tiles(result: SearchResult, atlas: Atlas) -> Sheet:
    shown = result.hits[:MAX_HITS]
    pictures = read_pictures([*shown, *([result.tile] if result.tile else [])], atlas)
    own = pictures[result.tile.tile_id] if result.tile else Picture(result.pixels)
    settings = result.settings
    least = f"of at least {settings.min_score:g}" if settings.min_score is not None else ""
    spread = settings.spread
    spread_over = f"at most {spread.most} of each {spread.column}" if spread else ""
    grid = f"tiles of {atlas.grid.tile_px} px at {atlas.grid.mpp:g} µm per px"
    return Sheet(
        query=result.query.text,
        picture=own,
        facts=_lines(
            _about(result.tile),
            _joined(_found(result), least, _chosen(result), spread_over),
            _joined(f"model {result.model_name}", grid, "places in level-0 px"),
            *result.remarks,
        ),
        notes=result.notes,
        cards=tuple(
            _tile(rank, hit, pictures[hit.tile_id]) for rank, hit in enumerate(shown, start=1)
        ),
    )


def _of_slides(result: SlideResult, atlas: Atlas) -> Sheet:
    shown = result.hits[:MAX_HITS]
    pictures = read_maps([_mapped(hit) for hit in shown], atlas)
    return Sheet(
        query=result.query.text,
        picture=_asked(result, atlas),
        facts=_lines(
            _about(result.tile),
            _joined(_found(result), f"by {result.method}", _chosen(result)),
            _joined(f"model {result.model_name}", "tiles that match are marked"),
        ),
        notes=result.notes,
        cards=tuple(
            _slide(rank, hit, picture)
            for rank, (hit, picture) in enumerate(zip(shown, pictures, strict=True), start=1)
        ),
        scale=f"likeness by {result.method}",
    )


def _mapped(hit: SlideHit) -> tuple[str, list[Hit]]:
    """The slide that is shown of a hit, and the tiles to mark on it."""
    tiles = [match.tile for match in hit.evidence]
    return (tiles[0].slide_id if tiles else hit.slides[0]), tiles


def _asked(result: SlideResult, atlas: Atlas) -> Picture:
    """What was asked with: a slide's map, else the tile or the picture."""
    if result.tile:
        return read_pictures([result.tile], atlas)[result.tile.tile_id]
    if result.pixels is not None:
        return Picture(result.pixels)
    if isinstance(result.query, SlideQuery):
        return read_maps([(result.query.slide_id, [])], atlas)[0]
    asked = {m.query_tile.slide_id for hit in result.hits for m in hit.evidence if m.query_tile}
    if asked:
        return read_maps([(min(asked), [])], atlas)[0]
    return Picture(None, "the query has none")


def _tile(rank: int, hit: Hit, picture: Picture) -> Card:
    return Card(
        rank=rank,
        score=f"{hit.score:.3f}",
        slide=hit.slide_id,
        place=_place(hit),
        region=f"{hit.slide_id}#{hit.x},{hit.y},{hit.size_px},{hit.size_px}",
        ask=hit.tile_id,
        facts=_known({"case": hit.case_id} | beside(["case"], hit.metadata)),
        picture=picture,
    )


def _slide(rank: int, hit: SlideHit, picture: Picture) -> Card:
    whole = f"slide:{hit.slide_id}" if hit.slide_id else f"case:{hit.case_id}"
    if hit.slide_id is None and hit.case_id is None:
        whole = f"slide:{hit.slides[0]}"
    name = whole.partition(":")[2]
    count = f"{len(hit.slides)} slides" if len(hit.slides) > 1 else hit.slides[0]
    case = {"case": hit.case_id} if hit.slide_id else {}
    return Card(
        rank=rank,
        score=f"{hit.score:.3f}",
        slide=name,
        place=count if count != name else "",
        region=whole,
        ask=whole,
        facts=_known(case | beside(case, hit.metadata)),
        picture=picture,
    )


def _found(result: Result) -> str:
    count, shown = len(result.hits), min(len(result.hits), MAX_HITS)
    return f"{count:,} hits" if shown == count else f"first {shown:,} of {count:,} hits"


def _chosen(result: Result) -> str:
    settings = result.settings
    where = f"where {settings.where}" if settings.where else ""
    own = settings.exclude.removeprefix(GROUP)
    return _joined(where, f"without the query's {own}" if own != "none" else "")


def _about(tile: Hit | None) -> str:
    return f"a tile of {tile.slide_id} at {_place(tile)}" if tile else ""


def _place(hit: Hit) -> str:
    return f"x {hit.x:,} · y {hit.y:,}"


def _known(facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in facts.items() if value is not None)


def _lines(*lines: str) -> tuple[str, ...]:
    return tuple(line for line in lines if line)


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)
