"""An atlas judged by what it holds: its vectors, its cases, its columns."""

from __future__ import annotations

from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from microtome.atlas.atlas import Atlas
from microtome.atlas.schema import vector_field
from microtome.atlas.tables import table_uri
from microtome.errors import ModelNotFound, NothingToFind, SettingError, VectorsInvalid
from microtome.evaluation.atlas_tiles import Wanted, read_tiles
from microtome.evaluation.contenders import Asked, gather
from microtome.evaluation.evaluate import evaluate
from microtome.evaluation.protocols import PROTOCOLS
from microtome.evaluation.report import sentences
from support.coloured_atlas import QUILTS, MeanColour, Quilt, make_atlas

ROWS = (("pink", "purple"), ("tan", "pink"))


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    return make_atlas(tmp_path, MeanColour())


def with_second_model(atlas: Atlas) -> str:
    """Adds a model that has no vectors yet."""
    card = MeanColour("second").card
    lance.dataset(table_uri(atlas.uri, "tiles")).add_columns(pa.schema([vector_field(card)]))
    return card.model_id


def test_vectors_are_the_tiles_own(atlas: Atlas) -> None:
    tiles = read_tiles(Wanted(f"atlas:{atlas.uri}#organ"))

    (card,) = tiles.cards
    stored = {
        (row["slide_id"], row["x"], row["y"]): row[f"vector_{card.model_id}"]
        for row in atlas.tiles.to_table().to_pylist()
    }
    samples = tiles.collection.samples.to_pylist()
    for sample, vector in zip(samples, tiles.vectors[card.model_id], strict=True):
        slide = Path(sample["uri"]).stem
        expected = stored[slide, sample["region"]["x"], sample["region"]["y"]]
        np.testing.assert_allclose(vector, expected, rtol=1e-6)
    assert len(samples) == 14
    assert tiles.collection.name == "organ of atlas"  # no path of this machine
    assert tiles.collection.notes == ("4 tiles have no organ and were left out",)


def test_a_draw_takes_its_tiles_vectors_along(atlas: Atlas) -> None:
    whole, some = (read_tiles(Wanted(f"{atlas.uri}#organ", limit=limit)) for limit in (None, 5))
    (model_id,) = whole.vectors
    of = dict(zip(whole.collection.names, whole.vectors[model_id].tolist(), strict=True))
    assert len(some.collection) == 5
    assert [of[name] for name in some.collection.names] == some.vectors[model_id].tolist()
    assert any("5 of 14 were drawn" in note for note in some.collection.notes)


# --group, groups of the 14 labelled tiles, what they are called
@pytest.mark.parametrize(
    ("group", "groups", "called"),
    [
        (None, {"case 1", "case 2"}, "case"),
        ("slide_id", {"a", "b", "c"}, "slide_id"),
        ("age", {"40", "71"}, "age"),
    ],
)
def test_any_column_can_be_left_out(
    atlas: Atlas, group: str | None, groups: set[str], called: str
) -> None:
    collection = read_tiles(Wanted(f"{atlas.uri}#organ", group=group)).collection
    assert (set(collection.groups), collection.grouped_by) == (groups, called)


def test_several_models_want_one_named(atlas: Atlas) -> None:
    second = with_second_model(atlas)
    with pytest.raises(SettingError, match=r"several models: mean-colour .*, second") as caught:
        read_tiles(Wanted(f"{atlas.uri}#organ"))
    assert "--model" in caught.value.remedy
    assert read_tiles(Wanted(f"{atlas.uri}#organ", ["mean-colour"])).cards[0].name == "mean-colour"
    with pytest.raises(VectorsInvalid, match="no tile of organ of atlas has a vector of every"):
        read_tiles(Wanted(f"{atlas.uri}#organ", ["mean-colour", second]))
    with pytest.raises(ModelNotFound):
        read_tiles(Wanted(f"{atlas.uri}#organ", ["third"]))


@pytest.mark.parametrize("data", ["atlas", "atlas#", "#organ", "atlas:atlas"])
def test_a_column_must_be_named(data: str) -> None:
    with pytest.raises(SettingError, match="doesn't say which column"):
        read_tiles(Wanted(data))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_stored_vectors_without_a_direction_are_refused(tmp_path: Path, value: float) -> None:
    class Broken(MeanColour):
        def encode(self, pixels: np.ndarray) -> np.ndarray:
            vectors = super().encode(pixels)
            vectors[0] = value
            return vectors

    uri = make_atlas(tmp_path, Broken()).uri
    with pytest.raises(VectorsInvalid, match="3 stored vectors of mean-colour"):
        read_tiles(Wanted(f"{uri}#organ"))


def judged(uri: str) -> object:
    collection, contenders = gather(Asked(PROTOCOLS["atlas"], f"{uri}#organ"), lambda *_: int)
    return evaluate(PROTOCOLS["atlas"], collection, contenders)


def test_tiles_of_one_case_never_find_each_other(tmp_path: Path) -> None:
    quilts = (
        Quilt("a", ROWS, "case 1", "skin"),
        Quilt("b", ROWS, "case 1", "skin"),
        Quilt("c", ROWS, "case 2", "skin"),
        Quilt("d", ROWS, None, "liver"),
    )
    found = judged(make_atlas(tmp_path, MeanColour(), quilts).uri)

    (outcome,) = found.outcomes
    groups = np.array(found.collection.groups)
    for query, places in zip(outcome.arm.queries, outcome.neighbours.places, strict=True):
        assert groups[query] not in groups[places[places >= 0]]
    assert "4 tiles have no case: their slide stands for it" in sentences(found)
    assert "4 of 16 queries have no image of their class to find" in " ".join(sentences(found))


def test_a_case_that_is_the_whole_atlas_is_a_typed_error(tmp_path: Path) -> None:
    uri = make_atlas(tmp_path, MeanColour(), QUILTS[:2]).uri
    with pytest.raises(NothingToFind, match="all 10 of organ of atlas are of one case"):
        judged(uri)
