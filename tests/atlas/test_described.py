"""What the atlas holds of a slide stands in for a manifest that says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from microtome.atlas.described import described
from microtome.slides.slide import SlideRef
from support.made_atlas import MadeAtlas

LUNG = {"organ": "lung", "age": 61}
NOTHING = dict.fromkeys(LUNG)


@pytest.mark.parametrize(
    ("case_id", "columns", "becomes"),
    [
        (None, {}, ("case-1", LUNG)),
        (None, NOTHING, ("case-1", LUNG)),
        ("case-2", NOTHING, ("case-2", NOTHING)),
        (None, {"organ": "skin", "age": None}, (None, {"organ": "skin", "age": None})),
    ],
    ids=["no manifest", "no row", "another case", "another organ"],
)
def test_a_slide_keeps_what_was_said_unless_a_manifest_speaks(
    tmp_path: Path, case_id: str | None, columns: dict, becomes: tuple
):
    made = MadeAtlas(str(tmp_path))
    made.committer.commit([made.done("a")])
    new = SlideRef("new", "slides/new")

    ref, same = described(made.atlas, [SlideRef("a", "a", case_id, columns=columns), new])

    assert (ref.case_id, ref.columns) == becomes
    assert same == new
