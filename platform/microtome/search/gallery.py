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
from microtome.search.pictures import Picture
from microtome.search.sheet import Sheet
from microtome.search.sheets import Result, make_sheet

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


def write_gallery(path: Path, result: Result, atlas: Atlas) -> None:
    """Write query and hits as pictures; a slide that can't be read leaves a grey field saying so.

    Args:
        path: `.png` for a contact sheet, `.html` for one self-contained page without scripts.
        result: of a search in `atlas`; the first `sheets.MAX_HITS` hits are shown.
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


def render_page(sheet: Sheet) -> bytes:
    """The sheet as HTML with its pictures inside; everything is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["data_uri"] = _data_uri
    template = resources.files("microtome.search").joinpath("gallery.html.j2")
    source = template.read_text(encoding="utf-8")
    return environment.from_string(source).render(sheet=sheet).encode()


def _data_uri(picture: Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(picture.pixels)).save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
