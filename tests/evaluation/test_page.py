"""The page: everything in it, nothing outside of it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from microtome.errors import SettingError
from microtome.evaluation.collection import Collection
from microtome.evaluation.curves import Curve, draw_curves
from microtome.evaluation.evaluate import Contender, Evaluation, evaluate
from microtome.evaluation.examples import best_and_worst
from microtome.evaluation.page import (
    check_page_path,
    confusion,
    recall_curve,
    render_page,
    write_page,
)
from microtome.evaluation.peers import random_vectors
from microtome.evaluation.protocols import PROTOCOLS
from microtome.evaluation.sources import read_images
from support.made_patches import write_patches

VOID = {"meta", "img", "br", "line", "polyline"}


class Balanced(HTMLParser):
    """Fails where a tag isn't closed, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, self.getpos()


@pytest.fixture
def images(tmp_path: Path) -> Collection:
    return read_images(PROTOCOLS["folder"], str(write_patches(tmp_path / "set", groups=4)))


def judged(collection: Collection, *contenders: Contender) -> Evaluation:
    some = contenders or (Contender("random", random_vectors(len(collection), 1), peer=True),)
    return evaluate(PROTOCOLS["folder"], collection, some, ks=(1, 5))


def test_the_page_is_whole_and_holds_everything_itself(images: Collection, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", judged(images))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")

    parsed = Balanced()
    parsed.feed(page)
    assert not parsed.open
    assert parsed.seen.count("svg") == 2
    assert parsed.seen.count("table") == 3
    assert parsed.seen.count("img") > 20
    assert not re.search(r"<script|https?://|src=\"(?!data:)|href=|url\(", page)
    assert str(tmp_path) not in page


def test_it_says_what_the_figures_mean(images: Collection) -> None:
    page = render_page(judged(images)).decode()
    for said in (
        "Leave one image out",
        "Leave one group out",
        "Each image asks those of every other group",
        "Only the second says how well an unseen patient&#39;s tissue is found",
        "mAP@5 by the three definitions",
        "over found",
        "1,000 draws",
    ):
        assert said in page


def test_names_are_shown_as_text_never_as_markup(images: Collection) -> None:
    evil = "<img src=x onerror=alert(1)>"
    count = len(images)
    named = replace(
        images, name=evil, names=(evil,) * count, classes=(evil, "b", "c"), grouped_by=evil,
        groups=tuple(f"{evil}{group}" for group in images.groups), notes=(evil,),
    )  # fmt: skip
    contender = Contender(evil, random_vectors(count, 1), about=evil)
    assert "<img src=x" not in render_page(judged(named, contender)).decode()


def test_an_image_that_is_gone_leaves_a_field_that_says_so(images: Collection) -> None:
    for sample in images.samples.to_pylist():
        Path(sample["uri"]).unlink()
    page = render_page(judged(images)).decode()
    assert "<img" not in page
    assert "No picture: nothing lies at c" in page


def test_vectors_alone_make_a_page_too(images: Collection) -> None:
    page = render_page(judged(replace(images, samples=None))).decode()
    assert "<img" not in page
    assert "vectors only" in page


@pytest.mark.parametrize(
    ("name", "problem"), [("page.pdf", r"must end in \.html"), ("none/page.html", "no folder")]
)
def test_a_page_that_can_t_be_written_is_refused_early(
    tmp_path: Path, name: str, problem: str
) -> None:
    with pytest.raises(SettingError, match=problem):
        check_page_path(tmp_path / name)


def by_hand() -> tuple[Collection, Evaluation]:
    """Four images of two classes: 0 and 1 find each other, 2 and 3 find 0 and 1 first."""
    collection = Collection(
        "made", ("a", "b"), np.array([0, 0, 1, 1]), tuple("pqrs"), ("all",) * 4, tuple("0123")
    )
    vectors = np.array([[1, 0, 0], [1, 0.1, 0], [1, 0.5, 0], [1, -0.4, 0.9]])
    return collection, judged(collection, Contender("x", vectors))


def test_the_best_and_the_worst_are_what_they_seem() -> None:
    collection, found = by_hand()
    best, worst = best_and_worst(collection, found.outcomes[0], count=2, depth=2)
    assert {one.place for one in best} == {0, 1}
    assert [one.place for one in worst] == [2, 3]  # 2 is surer of its wrong neighbour
    assert best[0].found[0].right
    assert all(not one.found[0].right for one in worst)
    assert best[0].precision == 1.0
    assert worst[0].precision == 0.0


def test_no_group_is_an_example_twice(images: Collection) -> None:
    found = judged(images)
    for side in best_and_worst(images, found.outcomes[-1], count=5, depth=3):
        groups = [images.groups[one.place] for one in side]
        assert len(groups) == len(set(groups)) == 5


def test_recall_rises_with_k_as_the_metric_does() -> None:
    _, found = by_hand()
    curve = recall_curve(found, found.outcomes[0])
    assert curve[0] == found.outcomes[0].scores.values["R@1"] == 0.5
    assert (np.diff(curve) >= 0).all()
    assert curve[2] == 1.0


def test_the_matrix_counts_queries_by_class_and_vote() -> None:
    _, found = by_hand()
    matrix = confusion(found, found.outcomes[0])
    assert matrix.columns[:2] == ("a", "b")
    assert [name for name, _ in matrix.rows] == ["a", "b"]
    assert [sum(count for count, _ in cells) for _, cells in matrix.rows] == [2, 2]


def test_curves_are_drawn_where_their_values_are() -> None:
    low, high = Curve("<low>", np.array([0.0, 0.5])), Curve("high & mighty", np.array([1.0, 1.0]))
    svg = ElementTree.fromstring(draw_curves([low, high], "R@k"))
    lines = [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in svg.iter("polyline")
    ]
    (left, bottom), (right, middle) = lines[0]
    assert left < right
    assert lines[1][0][1] == lines[1][1][1] < middle < bottom
    assert middle == pytest.approx((bottom + lines[1][0][1]) / 2, abs=0.1)


def test_names_at_the_ends_of_curves_never_cover_each_other() -> None:
    curves = [Curve(str(one), np.array([0.1, 0.02 + one / 500])) for one in range(8)]
    svg = ElementTree.fromstring(draw_curves(curves, "R@k"))
    ends = sorted(
        float(group.find("text").get("y")) for group in svg if group.find("polyline") is not None
    )
    assert np.diff(ends).min() >= 15.9
    assert ends[-1] <= 300
