"""What `microtome slides` and `microtome info` say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from microtome.atlas.reading import allowed_licences, describe, list_slides, model_source
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.errors import ModelNotFound, SettingError
from support.made_atlas import CARD, MadeAtlas


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    made = MadeAtlas(str(tmp_path))
    made.committer.commit([made.failed("f"), made.done("d"), made.empty("e")])
    return made


def test_every_wanted_slide_is_listed_with_what_became_of_it(made: MadeAtlas):
    told = [(r["slide_id"], r["status"], r["cause"], r["tiles"]) for r in list_slides(made.atlas)]
    assert told == [("d", "done", "", 5), ("e", "empty", "", 0), ("f", "failed", "truncated", 0)]


def test_rows_have_the_same_keys_whether_or_not_there_are_facts(made: MadeAtlas):
    done, empty, failed = list_slides(made.atlas)
    assert done.keys() == empty.keys() == failed.keys()
    assert (done["mpp"], done["organ"], done["tissue_mm2"]) == (0.25, "lung", 1.5)
    assert (failed["mpp"], failed["organ"], failed["uri"]) == (None, None, "slides/f")


@pytest.mark.parametrize(
    ("status", "names"), [("failed", ["f"]), ("done", ["d"]), (None, [*"def"])]
)
def test_slides_by_status(made: MadeAtlas, status: str | None, names: list[str]):
    assert [row["slide_id"] for row in list_slides(made.atlas, status)] == names


def test_an_unknown_status_is_refused(made: MadeAtlas):
    with pytest.raises(SettingError, match="done, empty, failed, not broken"):
        list_slides(made.atlas, "broken")


def test_a_slide_that_failed_after_it_changed_says_so_and_keeps_its_facts(made: MadeAtlas):
    made.committer.commit([made.failed("d", stamp="2")])
    row = list_slides(made.atlas)[0]
    assert (row["status"], row["tiles"]) == ("failed", 5)


def test_the_atlas_at_a_glance_is_json(made: MadeAtlas):
    finish_run(made.writer, made.run_id, "finished", RunTotals(slides_done=1))
    told = json.loads(json.dumps(describe(made.atlas)))
    assert told["slides"] == {"done": 1, "empty": 1, "failed": 1}
    assert told["tiles"] == 5
    assert told["grid"] == {"mpp": 0.5, "tile_px": 16, "stride_px": 16}
    assert told["columns"] == {"organ": "string", "age": "int64"}
    assert [model["model_id"] for model in told["models"]] == [CARD.model_id]
    assert [run["status"] for run in told["runs"]] == ["finished"]
    assert told["bytes"] > 1000


def test_the_model_is_named_as_in_the_newest_run_that_names_it(made: MadeAtlas):
    for settings in ({"model": "plain"}, {"model": "models/mine"}, {}):
        start_run(made.writer, "index", settings, CARD)
    assert model_source(made.atlas) == "models/mine"


def test_a_model_that_no_run_names_is_asked_for(made: MadeAtlas):
    with pytest.raises(ModelNotFound, match="doesn't say where its model came from"):
        model_source(made.atlas)


def test_licences_that_any_run_allowed_are_told(made: MadeAtlas):
    assert allowed_licences(made.atlas) == ()
    for licences in (["cc-by-nc-4.0"], [], ["other", "cc-by-nc-4.0"]):
        start_run(made.writer, "index", {"allow_licences": licences}, CARD)
    assert allowed_licences(made.atlas) == ("cc-by-nc-4.0", "other")


def test_licences_allowed_for_a_model_that_the_atlas_does_not_hold_are_not_told(made: MadeAtlas):
    other = replace(CARD, weights_sha256="11")
    start_run(made.writer, "index", {"allow_licences": ["cc-by-nc-4.0"]}, other)
    assert allowed_licences(made.atlas) == ()
