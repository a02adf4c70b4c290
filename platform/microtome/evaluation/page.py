"""An evaluation as one HTML page that needs nothing else: no scripts, no network, no paths."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from microtome.datasets.labelled import read_image
from microtome.errors import ImageUnreadable, SettingError
from microtome.evaluation.arms import Arm
from microtome.evaluation.curves import Curve, draw_curves
from microtome.evaluation.evaluate import Evaluation, Outcome
from microtome.evaluation.examples import Example, best_and_worst
from microtome.evaluation.metrics import found_labels
from microtome.evaluation.report import (
    DEFINITIONS,
    INTERVAL,
    VARIANTS_K,
    drawn_from,
    sentences,
    table_metrics,
    table_rows,
    variants,
)

CURVE_K: Final = 20
EXAMPLES: Final = 6
NEIGHBOURS: Final = 6
THUMBNAIL_PX: Final = 160
JPEG_QUALITY: Final = 82
VOTES: Final = 5
MOST_CLASSES: Final = 40
"""A confusion matrix of more is read by nobody; the JSON document has every figure."""


def check_page_path(path: Path) -> None:
    """Refuse early what `write_page` could not write.

    Raises:
        SettingError: not .html or .htm, or nowhere that it may be written.
    """
    if path.suffix.lower() not in {".html", ".htm"}:
        raise SettingError(f"the page {path} must end in .html")
    if not path.absolute().parent.is_dir():
        raise SettingError(f"there is no folder for the page {path}", remedy="Make it first.")
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise SettingError(f"the page {path} may not be written there")


def write_page(path: Path, evaluation: Evaluation) -> None:
    """Write the page; an image that can't be read leaves a field that says so.

    Raises:
        SettingError: the path can't be written.
    """
    check_page_path(path)
    try:
        path.write_bytes(render_page(evaluation))
    except OSError as error:
        raise SettingError(f"the page {path} can't be written: {error.strerror}") from None


def render_page(evaluation: Evaluation) -> bytes:
    """The page as UTF-8; every name in it is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("microtome.evaluation").joinpath("page.html.j2")
    source = template.read_text(encoding="utf-8")
    page = Page(evaluation)
    return environment.from_string(source).render(page=page, of=evaluation).encode()


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix, ready to be drawn.

    Attributes:
        votes: neighbours that vote.
        columns: names of the classes, then of no class, where that occurs.
        rows: of each class with queries: its name and, for each column, count and share of the row.
    """

    votes: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]


@dataclass(frozen=True)
class Section:
    """What is shown of one contender.

    Attributes:
        outcome: in the arm to believe.
        matrix: None where there are too many classes.
        best: queries answered best.
        worst: queries answered worst.
        variants: mAP@5 by definition.
    """

    outcome: Outcome
    matrix: Matrix | None
    best: list[Example]
    worst: list[Example]
    variants: dict[str, float]


class Page:
    """What the template asks for.

    Args:
        evaluation: what is shown.
    """

    definitions = DEFINITIONS
    interval = INTERVAL
    variants_k = VARIANTS_K

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self._pictures: dict[int, Markup] = {}

    @property
    def columns(self) -> list[str]:
        """Of the tables."""
        return table_metrics(self.evaluation)

    @property
    def sentences(self) -> list[str]:
        """What must be said."""
        return sentences(self.evaluation)

    @property
    def groups(self) -> int:
        """How many slides or patients there are; 0 where nobody says."""
        return len(set(self.evaluation.collection.groups) - {None})

    def rows(self, arm: Arm) -> list[dict[str, Any]]:
        """Of an arm's table."""
        return table_rows(self.evaluation, arm)

    def drawn(self, arm: Arm) -> str:
        """What an arm's intervals were drawn from."""
        return drawn_from(self.evaluation, arm)

    def curves(self, arm: Arm) -> Markup:
        """R@k of every contender, and of chance, over k."""
        lines = [
            Curve(outcome.contender.name, recall_curve(self.evaluation, outcome))
            for outcome in self.evaluation.of_arm(arm)
        ]
        lines.append(Curve("chance", self.evaluation.chance_curve(arm, CURVE_K), faint=True))
        return Markup(draw_curves(lines, f"R@k, {arm.name}"))  # noqa: S704 - it escapes names

    @cached_property
    def sections(self) -> list[Section]:
        """One for each contender that isn't there only to be beaten; all where none else is."""
        outcomes = self.evaluation.of_arm(self.evaluation.arms[-1])
        chosen = [one for one in outcomes if not one.contender.peer] or outcomes
        return [self._section(outcome) for outcome in chosen]

    def _section(self, outcome: Outcome) -> Section:
        best, worst = best_and_worst(self.evaluation.collection, outcome, EXAMPLES, NEIGHBOURS)
        matrix = confusion(self.evaluation, outcome)
        return Section(outcome, matrix, best, worst, variants(self.evaluation, outcome))

    def name(self, place: int) -> str:
        """What to call an image."""
        return self.evaluation.collection.names[place]

    def label(self, place: int) -> str:
        """Its class."""
        collection = self.evaluation.collection
        return collection.classes[int(collection.labels[place])]

    def group(self, place: int) -> str:
        """Its slide or patient; empty where nobody says."""
        return self.evaluation.collection.groups[place] or ""

    def picture(self, place: int) -> Markup:
        """An `<img>` with the picture inside, or why there is none; each is read once."""
        if place not in self._pictures:
            self._pictures[place] = self._read(place)
        return self._pictures[place]

    def _read(self, place: int) -> Markup:
        samples = self.evaluation.collection.samples
        if samples is None:
            return Markup("<span>vectors only</span>")
        try:
            pixels = read_image(samples.slice(place, 1).to_pylist()[0])
        except ImageUnreadable as error:
            return Markup("<span>No picture: {}</span>").format(error.message)
        image = Image.fromarray(np.asarray(pixels))
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=JPEG_QUALITY)
        data = base64.b64encode(file.getvalue()).decode()
        return Markup('<img src="data:image/jpeg;base64,{}" alt="{}">').format(
            data, self.name(place)
        )


def recall_curve(evaluation: Evaluation, outcome: Outcome) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(K,) R@k for k = 1 … K."""
    labels = evaluation.collection.labels
    found = found_labels(outcome.neighbours, labels[outcome.arm.gallery])[:, :CURVE_K]
    right = found == labels[outcome.arm.queries][:, None]
    return np.asarray(np.maximum.accumulate(right, axis=1).mean(axis=0), np.float64)


def confusion(evaluation: Evaluation, outcome: Outcome) -> Matrix | None:
    """Queries by class, and by the vote of the nearest; None of too many classes."""
    classes = evaluation.collection.classes
    if len(classes) > MOST_CLASSES:
        return None
    k = VOTES if VOTES in outcome.scores.predicted else max(outcome.scores.predicted)
    counts = outcome.scores.confusion(k, len(classes))
    names = (*classes, "no class")
    shown = [place for place in range(len(names)) if place < len(classes) or counts[:, place].any()]
    rows = [
        (name, tuple((int(row[place]), float(row[place] / row.sum())) for place in shown))
        for name, row in zip(classes, counts, strict=True)
        if row.any()
    ]
    return Matrix(k, tuple(names[place] for place in shown), tuple(rows))
