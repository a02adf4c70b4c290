"""A model leaves an atlas of several, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microtome.atlas.atlas import Atlas
from microtome.atlas.calibration_files import read_stored
from microtome.atlas.dropping import Dropped, drop_model
from microtome.atlas.reading import coverage, describe, model_source
from microtome.atlas.schema import vector_column
from microtome.atlas.writer import Writer, open_writer
from microtome.errors import ModelNotFound, SettingError
from microtome.search.calibration import store_calibrations
from support.bare_embed import FIRST, SECOND, bare_embed, index_quilts
from support.coloured_atlas import QUILTS, MeanColour

TWO = QUILTS[:2]


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    """Two slides, ten tiles, of two models."""
    atlas = index_quilts(tmp_path, quilts=TWO)
    bare_embed(atlas.uri)
    return Atlas.open(atlas.uri)


def drop(atlas: Atlas, named: str) -> Dropped:
    with open_writer(atlas.uri, "test") as writer:
        return drop_model(writer, named)


def models_in_ledger(atlas: Atlas) -> set[str]:
    return set(atlas.work.to_table(columns=["model_id"])["model_id"].to_pylist())


@pytest.mark.parametrize("by", ["name", "id"])
def test_its_column_and_its_ledger_go_and_the_others_stay(atlas: Atlas, by: str):
    one = vector_column(FIRST.card.model_id)
    before = atlas.tiles.to_table(columns=["tile_id", one])

    dropped = drop(atlas, "second" if by == "name" else SECOND.card.model_id)

    assert (dropped.name, dropped.left) == ("second", ("first",))
    assert list(Atlas.open(atlas.uri).models) == [FIRST.card.model_id]
    assert models_in_ledger(atlas) == {FIRST.card.model_id}
    assert atlas.tiles.to_table(columns=["tile_id", one]) == before


def test_its_calibration_goes_and_the_others_stay(atlas: Atlas):
    with open_writer(atlas.uri, "test") as writer:
        store_calibrations(writer)

    drop(atlas, "second")

    assert read_stored(atlas.uri, SECOND.card.model_id) is None
    assert read_stored(atlas.uri, FIRST.card.model_id) is not None


def test_it_can_be_embedded_again(atlas: Atlas):
    drop(atlas, "second")
    again = bare_embed(atlas.uri)
    assert again.tiles == coverage(Atlas.open(atlas.uri))[SECOND.card.model_id] == 10


def test_the_last_model_stays(atlas: Atlas):
    drop(atlas, "first")
    with pytest.raises(SettingError, match="only model"):
        drop(atlas, "second")


def test_slides_that_have_no_other_vectors_keep_it(atlas: Atlas, tmp_path: Path):
    index_quilts(tmp_path, SECOND, QUILTS[2:3])

    with pytest.raises(SettingError, match=r"1 slides .* such as c\.svs"):
        drop(atlas, "second")
    bare_embed(atlas.uri, FIRST)

    assert drop(atlas, "second").left == ("first",)


def test_an_unknown_model_is_answered_with_those_there_are(atlas: Atlas):
    with pytest.raises(ModelNotFound, match=r"no model third, but first \(.*\), second \("):
        drop(atlas, "third")


def test_a_name_of_two_models_is_not_enough(atlas: Atlas):
    namesake = MeanColour("third")
    namesake.card = namesake.card.__class__.from_json(
        namesake.card.to_json().replace('"name": "third"', '"name": "second"')
    )
    bare_embed(atlas.uri, namesake)
    with pytest.raises(SettingError, match="several models"):
        drop(atlas, "second")


def test_cut_short_before_any_commit_it_is_finished_or_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Cut(BaseException):
        pass

    repeat, left = Writer._repeat, 0

    def stopping(self: Writer, *arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Cut
        return repeat(self, *arguments, **named)

    atlas, column = index_quilts(tmp_path, quilts=TWO), vector_column(SECOND.card.model_id)
    cuts = 0
    while True:
        bare_embed(atlas.uri)
        assert coverage(Atlas.open(atlas.uri))[SECOND.card.model_id] == 10
        assert atlas.tiles.count_rows(f"{column} IS NOT NULL") == 10
        monkeypatch.setattr(Writer, "_repeat", stopping)
        left = cuts
        try:
            drop(atlas, "second")
            break
        except Cut:
            cuts += 1
        finally:
            monkeypatch.undo()
        if SECOND.card.model_id in Atlas.open(atlas.uri).models and cuts % 2:
            drop(atlas, "second")
    assert cuts >= 4
    assert column not in atlas.tiles.schema.names


def test_the_glance_tells_how_much_each_model_covers(atlas: Atlas, tmp_path: Path):
    index_quilts(tmp_path, SECOND, QUILTS[2:3])

    told = {model["name"]: model for model in describe(Atlas.open(atlas.uri))["models"]}

    assert (told["first"]["tiles"], told["second"]["tiles"]) == (10, 14)
    assert told["first"]["coverage"] == pytest.approx(10 / 14)
    assert told["second"]["coverage"] == 1.0


def test_each_model_is_named_as_in_its_own_runs(atlas: Atlas):
    assert model_source(atlas, SECOND.card.model_id) == model_source(atlas) == "second"
    with pytest.raises(ModelNotFound):
        model_source(atlas, FIRST.card.model_id)  # made by a run that doesn't say
