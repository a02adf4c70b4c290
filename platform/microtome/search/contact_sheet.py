"""A sheet of hits drawn as one PNG: the query on top, below it the hits, row by row."""

from __future__ import annotations

import io
from bisect import bisect
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

from microtome.search.pictures import Picture
from microtome.search.sheet import Card, Sheet

MIN_COLUMNS: Final = 4
MAX_COLUMNS: Final = 5
PICTURE_PX: Final = 240
GAP_PX: Final = 28
MARGIN_PX: Final = 48
MAX_FACTS: Final = 4

_PAPER, _INK, _MUTED, _LINE = "#ffffff", "#1c1b22", "#6e6b7b", "#d9d7e0"
_ACCENT, _FIELD = "#8e2a6b", "#eceaf1"
_LARGE, _MIDDLE, _SMALL = 30, 19, 15

Draw = ImageDraw.ImageDraw
Font = Any


@dataclass
class _Pen:
    """Writes lines of text downwards.

    Attributes:
        draw: where to.
        x: left edge, px.
        y: top of the next line, px; moves on.
        width: no line gets wider, px.
    """

    draw: Draw
    x: int
    y: int
    width: int

    def line(self, text: str, size: int, colour: str = _INK, *, label: str = "") -> None:
        """Write one line after its muted label, shortened in the middle where it is too wide."""
        font = _font(size)
        if label:
            label = shortened(label, font, self.width / 2) + "  "
            self.draw.text((self.x, self.y), label, _MUTED, font)
        indent = round(font.getlength(label))
        text = shortened(text, font, self.width - indent)
        self.draw.text((self.x + indent, self.y), text, colour, font)
        self.y += _step(size)


def draw_sheet(sheet: Sheet) -> bytes:
    """The PNG's bytes."""
    columns = min(MAX_COLUMNS, max(MIN_COLUMNS, len(sheet.cards)))
    rows = [sheet.cards[i : i + columns] for i in range(0, len(sheet.cards), columns)]
    heights = [_card_height(row) for row in rows]
    width = 2 * MARGIN_PX + columns * (PICTURE_PX + GAP_PX) - GAP_PX
    top = MARGIN_PX + max(PICTURE_PX, _head_height(sheet)) + MARGIN_PX
    height = top + sum(heights) + GAP_PX * max(0, len(rows) - 1) + MARGIN_PX
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    _draw_head(image, draw, sheet)
    draw.line((MARGIN_PX, top - MARGIN_PX // 2, width - MARGIN_PX, top - MARGIN_PX // 2), _LINE)
    for row, row_height in zip(rows, heights, strict=True):
        for column, card in enumerate(row):
            _draw_card(image, draw, card, (MARGIN_PX + column * (PICTURE_PX + GAP_PX), top))
        top += row_height + GAP_PX
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def shortened(text: str, font: Font, width: float) -> str:
    """The text, with its middle left out where it is wider than `width` px."""
    text = " ".join(text.replace("µ", "u").split())  # Pillow's font has no µ
    if font.getlength(text) <= width:
        return text
    lengths = range(1, len(text))
    fitting = bisect(lengths, width, key=lambda n: font.getlength(_without_middle(text, n)))
    return _without_middle(text, max(1, fitting))


def wrapped(text: str, font: Font, width: float, lines: int) -> list[str]:
    """The text in at most `lines` lines of at most `width` px; what is left over is cut off."""
    done = [""]
    for word in text.split():
        longer = f"{done[-1]} {word}".strip()
        if font.getlength(longer) <= width or not done[-1]:
            done[-1] = longer
        else:
            done.append(word)
    if len(done) > lines:
        done = [*done[: lines - 1], f"{done[lines - 1]} …"]
    return [shortened(line, font, width) for line in done]


def _without_middle(text: str, keep: int) -> str:
    return f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"


@lru_cache
def _font(size: int) -> Font:
    """Pillow's own font, so that a sheet looks the same on every machine."""
    return ImageFont.load_default(size)


def _head_height(sheet: Sheet) -> int:
    lines = [_SMALL, _LARGE, *[_SMALL] * (len(sheet.facts) + len(sheet.notes))]
    return sum(map(_step, lines)) + 20


def _card_height(cards: tuple[Card, ...]) -> int:
    facts = max(min(len(card.facts), MAX_FACTS) for card in cards)
    lines = [_MIDDLE, *[_SMALL] * (2 + facts)]
    return PICTURE_PX + 12 + sum(map(_step, lines))


def _step(size: int) -> int:
    """From one line to the next, px."""
    return round(size * 1.42)


def _draw_head(image: Image.Image, draw: Draw, sheet: Sheet) -> None:
    _draw_picture(image, draw, sheet.picture, (MARGIN_PX, MARGIN_PX))
    left = MARGIN_PX + PICTURE_PX + GAP_PX
    pen = _Pen(draw, left, MARGIN_PX + 4, image.width - MARGIN_PX - left)
    pen.line("QUERY", _SMALL, _ACCENT)
    pen.line(sheet.query, _LARGE)
    pen.y += 8
    for text in sheet.facts:
        pen.line(text, _SMALL, _MUTED)
    pen.y += 8
    for text in sheet.notes:
        pen.line(text[:1].upper() + text[1:] + ".", _SMALL)


def _draw_card(image: Image.Image, draw: Draw, card: Card, corner: tuple[int, int]) -> None:
    left, top = corner
    _draw_picture(image, draw, card.picture, corner)
    pen = _Pen(draw, left, top + PICTURE_PX + 12, PICTURE_PX)
    score = _font(_MIDDLE)
    right = left + PICTURE_PX - score.getlength(card.score)
    draw.text((right, pen.y), card.score, _ACCENT, score)
    pen.line(f"{card.rank}", _MIDDLE)
    pen.line(card.slide, _SMALL)
    pen.line(card.place, _SMALL, _MUTED)
    shown = card.facts
    if len(shown) > MAX_FACTS:
        shown = (*shown[: MAX_FACTS - 1], (f"and {len(shown) - MAX_FACTS + 1} more", ""))
    for name, value in shown:
        pen.line(value, _SMALL, label=name)


def _draw_picture(
    image: Image.Image, draw: Draw, picture: Picture, corner: tuple[int, int]
) -> None:
    """A picture in its square field, whole and undistorted, or a grey field that says why not."""
    left, top = corner
    field = (left, top, left + PICTURE_PX - 1, top + PICTURE_PX - 1)
    draw.rectangle(field, _FIELD)
    if picture.pixels is None:
        font = _font(_SMALL)
        lines = ["No picture", *wrapped(picture.problem, font, PICTURE_PX - 32, 6)]
        text = "\n".join(lines)
        middle = (left + PICTURE_PX / 2, top + PICTURE_PX / 2)
        draw.multiline_text(middle, text, _MUTED, font, "mm", spacing=6, align="center")
    else:
        fitted = ImageOps.contain(Image.fromarray(picture.pixels), (PICTURE_PX, PICTURE_PX))
        spare_x, spare_y = PICTURE_PX - fitted.width, PICTURE_PX - fitted.height
        image.paste(fitted, (left + spare_x // 2, top + spare_y // 2))
    draw.rectangle(field, outline=_LINE)
