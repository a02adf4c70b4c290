"""An outcome can't contradict itself."""

from __future__ import annotations

import pytest

from microtome.atlas.outcome import SlideOutcome
from microtome.errors import SlideTruncated
from support.made_atlas import ref_of, slide_of

REF = ref_of("a")
FACTS = {"content_id": "c", "slide": slide_of(REF, "a")}
TILES = {"stored_tiles": 1, "fragments": ("{}",)}


@pytest.mark.parametrize(
    ("status", "facts", "words"),
    [
        ("failed", {}, "has a cause"),
        ("done", FACTS | TILES | {"cause": "truncated"}, "has a cause"),
        ("done", TILES | {"content_id": "c"}, "has facts and tiles"),
        ("done", FACTS, "has facts and tiles"),
        ("done", {**FACTS, **TILES, "content_id": ""}, "has a content id"),
        ("empty", {"content_id": "c"}, "has facts"),
        ("empty", FACTS | TILES, "only a slide that is done has tiles"),
        ("failed", {"cause": "truncated"} | TILES, "only a slide that is done has tiles"),
        ("unchanged", {"content_id": "c"} | TILES, "only a slide that is done has tiles"),
        ("unchanged", {}, "has a content id"),
    ],
)
def test_contradictions_are_refused(status, facts, words):
    with pytest.raises(ValueError, match=words):
        SlideOutcome(REF, status, **facts)


def test_a_slide_that_turns_out_to_have_failed_lets_its_tiles_go():
    became = SlideOutcome(REF, "done", **FACTS, **TILES).failed(
        SlideTruncated("a ends early", remedy="Copy it")
    )
    assert (became.status, became.cause) == ("failed", "truncated")
    assert became.message == "a ends early. Copy it"
    assert (became.stored_tiles, became.fragments) == (0, ())
