"""A search as a picture: query and hits side by side, as one PNG or one HTML page.

pictures of the hits, read from their slides → a sheet of cards → drawn by Pillow or by a template
"""

from __future__ import annotations

import base64
import io
from importlib import resources
from pathlib import Path
from typing import Final

import jinja2
import numpy as np
from PIL import Image

from microtome.atlas.atlas import Atlas
from microtome.errors import SettingError
from microtome.search.contact_sheet import draw_sheet
from microtome.search.exclusion import GROUP
from microtome.search.pictures import Picture, read_pictures
from microtome.search.result import Hit, SearchResult
from microtome.search.sheet import Card, Sheet

MAX_HITS: Final = 200
"""A sheet of more is read by nobody; the hits themselves are all in the result."""

JPEG_QUALITY: Final = 90


def check_gallery_path(path: Path) -> None:
    """Refuse early what `write_gallery` could not write.

    Raises:
        SettingError: not .png, .html or .htm, or no folder to write it in.
    """
    if path.suffix.lower() not in {".png", ".html", ".htm"}:
        raise SettingError(f"the gallery {path} must end in .png or .html")
    if not path.absolute().parent.is_dir():
        raise SettingError(f"there is no folder for the gallery {path}", remedy="Make it first.")


def write_gallery(path: Path, result: SearchResult, atlas: Atlas) -> None:
    """Write query and hits as pictures; a slide that can't be read leaves a grey field saying so.

    Args:
        path: `.png` for a contact sheet, `.html` for one self-contained page without scripts.
        result: of a search in `atlas`; the first `MAX_HITS` hits are shown.
        atlas: says where the slides lie.

    Raises:
        SettingError: the path can't be written.
    """
    check_gallery_path(path)
    sheet = make_sheet(result, atlas)
    content = draw_sheet(sheet) if path.suffix.lower() == ".png" else render_page(sheet)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SettingError(f"the gallery {path} can't be written: {error.strerror}") from None


def make_sheet(result: SearchResult, atlas: Atlas) -> Sheet:
    """Read the pictures and put into words what stands beside them."""
    shown = result.hits[:MAX_HITS]
    pictures = read_pictures([*shown, *([result.tile] if result.tile else [])], atlas)
    own = pictures[result.tile.tile_id] if result.tile else Picture(result.pixels)
    return Sheet(
        query=result.query.text,
        picture=own,
        facts=_facts(result, atlas, len(shown)),
        notes=result.notes,
        cards=tuple(
            _card(rank, hit, pictures[hit.tile_id]) for rank, hit in enumerate(shown, start=1)
        ),
    )


def render_page(sheet: Sheet) -> bytes:
    """The sheet as HTML with its pictures inside; everything is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["data_uri"] = _data_uri
    template = resources.files("microtome.search").joinpath("gallery.html.j2")
    source = template.read_text(encoding="utf-8")
    return environment.from_string(source).render(sheet=sheet).encode()


def _facts(result: SearchResult, atlas: Atlas, shown: int) -> tuple[str, ...]:
    card = atlas.models[result.model_id]
    count = len(result.hits)
    hits = f"{count:,} hits" if shown == count else f"first {shown:,} of {count:,} hits"
    settings = result.settings
    where = f"where {settings.where}" if settings.where else ""
    excluded = (
        f"without the query's {settings.exclude.removeprefix(GROUP)}"
        if settings.exclude != "none"
        else ""
    )
    tile = f"a tile of {result.tile.slide_id} at {_place(result.tile)}" if result.tile else ""
    spread = (
        f"at most {settings.spread.most} of each {settings.spread.column}"
        if settings.spread
        else ""
    )
    least = f"of at least {settings.min_score:g}" if settings.min_score is not None else ""
    grid = f"tiles of {atlas.grid.tile_px} px at {atlas.grid.mpp:g} µm per px"
    lines = (
        tile,
        _joined(hits, least, where, excluded, spread),
        _joined(f"model {card.name}", grid, "places in level-0 px"),
        *result.remarks,
    )
    return tuple(line for line in lines if line)


def _place(hit: Hit) -> str:
    return f"x {hit.x:,} · y {hit.y:,}"


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _card(rank: int, hit: Hit, picture: Picture) -> Card:
    known = {"case": hit.case_id, **hit.metadata}
    return Card(
        rank=rank,
        score=f"{hit.score:.3f}",
        slide=hit.slide_id,
        place=_place(hit),
        region=f"{hit.slide_id}#{hit.x},{hit.y},{hit.size_px},{hit.size_px}",
        tile_id=hit.tile_id,
        facts=tuple((name, str(value)) for name, value in known.items() if value is not None),
        picture=picture,
    )


def _data_uri(picture: Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(picture.pixels)).save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
