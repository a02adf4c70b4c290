"""The demo's answers as one picture: a row per tissue type, the query first, then its hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from microtome.atlas.atlas import Atlas
from microtome.search.pictures import read_pictures
from microtome.search.result import SearchResult

TILE_PX = 150
GAP_PX = 10
LABEL_PX = 150
QUERY_GAP_PX = 34
FRAME_PX = 4
PAPER, INK, MUTED, RIGHT, WRONG = "#ffffff", "#1c1b22", "#6e6b7b", "#2e8b57", "#c62828"


@dataclass(frozen=True, slots=True)
class Answer:
    """One question of the demo.

    Attributes:
        tissue: type of the query tile.
        result: its hits, none from the query's own slide.
        found: type of the tissue that each hit mostly shows.
    """

    tissue: str
    result: SearchResult
    found: tuple[str, ...]

    @property
    def right(self) -> int:
        """How many hits are of the query's type."""
        return self.found.count(self.tissue)


def draw_overview(path: Path, answers: Sequence[Answer], atlas: Atlas) -> None:
    """Write a PNG: hits of the query's own tissue type are framed green, others red."""
    step = TILE_PX + GAP_PX
    columns = max(len(answer.result.hits) for answer in answers)
    width = LABEL_PX + TILE_PX + QUERY_GAP_PX + columns * step
    image = Image.new("RGB", (width, len(answers) * step + 2 * GAP_PX), PAPER)
    for row, answer in enumerate(answers):
        _draw_row(image, 2 * GAP_PX + row * step, answer, atlas)
    image.save(path, optimize=True)


def _draw_row(image: Image.Image, top: int, answer: Answer, atlas: Atlas) -> None:
    query, hits = answer.result.tile, answer.result.hits
    if query is None:
        raise ValueError("the demo asks with tiles")
    pictures = read_pictures([query, *hits], atlas)
    draw = ImageDraw.Draw(image)
    middle = top + TILE_PX // 2
    draw.text((GAP_PX, middle - 12), answer.tissue, INK, ImageFont.load_default(21), "lm")
    score = f"{answer.right} of {len(hits)} right"
    draw.text((GAP_PX, middle + 14), score, MUTED, ImageFont.load_default(15), "lm")
    lefts = [LABEL_PX]
    lefts += [LABEL_PX + TILE_PX + QUERY_GAP_PX + n * (TILE_PX + GAP_PX) for n in range(len(hits))]
    frames = [INK, *(RIGHT if tissue == answer.tissue else WRONG for tissue in answer.found)]
    for tile, left, frame in zip([query, *hits], lefts, frames, strict=True):
        pixels = pictures[tile.tile_id].pixels
        if pixels is not None:
            image.paste(Image.fromarray(pixels).resize((TILE_PX, TILE_PX)), (left, top))
        draw.rectangle((left, top, left + TILE_PX - 1, top + TILE_PX - 1), None, frame, FRAME_PX)
