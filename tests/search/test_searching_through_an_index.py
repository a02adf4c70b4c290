"""What a search says of the index it went through, and of older states."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from microtome import cli
from microtome.atlas.index_building import refresh_index
from microtome.atlas.writer import open_writer
from microtome.errors import SettingError, TileNotFound
from microtome.search.query import TileQuery
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from microtome_jobs.atlas_commands import app as commands
from support.clustered_atlas import Clusters, add_tiles, make_atlas, tile_name

DIM, ROWS = 32, 1500
CLUSTERS = Clusters(DIM, clusters=20)


@pytest.fixture
def atlas(tmp_path):
    made = make_atlas(str(tmp_path / "atlas"), DIM)
    add_tiles(made, CLUSTERS.drawn(ROWS))
    refresh_index(made, *made.models, least_rows=1)
    return made


def ask(atlas, number=3, **settings):
    return Searcher(atlas).search(TileQuery(tile_name(number)), SearchSettings(**settings))


def test_a_result_names_path_model_and_version(atlas):
    (model_id,) = atlas.models
    result = ask(atlas)
    assert (result.path, result.model_name, result.model_id) == ("index", "made", model_id)
    assert (result.tiles_version, result.coverage, result.notes) == (atlas.tiles.version, 1.0, ())
    assert result.hits[0].tile_id == tile_name(3)
    exact = ask(atlas, exact=True)
    assert exact.path == "exact"
    assert exact.hits[0] == dataclasses.replace(
        result.hits[0], score=pytest.approx(exact.hits[0].score, abs=1e-6)
    )


def test_asked_together_each_leaves_out_its_own_case(atlas):
    numbers = [3, 1001, 4]
    queries = [TileQuery(tile_name(number)) for number in numbers]
    settings = SearchSettings(exclude="slide")
    results = Searcher(atlas).search_many(queries, settings)
    assert [result.query for result in results] == queries
    for number, result in zip(numbers, results, strict=True):
        own = f"slide-{number // 1000:06d}"
        assert own not in {hit.slide_id for hit in result.hits}
        alone = Searcher(atlas).search(result.query, settings)
        assert [hit.tile_id for hit in alone.hits] == [hit.tile_id for hit in result.hits]


def test_a_damaged_index_is_said_and_the_search_is_exact(atlas):
    for path in Path(atlas.uri).glob("_index/*/*/codes.faiss"):
        path.write_bytes(b"?")
    result = ask(atlas)
    assert result.path == "exact"
    assert [hit.tile_id for hit in result.hits] == [
        hit.tile_id for hit in ask(atlas, exact=True).hits
    ]
    (note,) = result.notes
    assert "codes.faiss is damaged" in note


def test_many_tiles_outside_the_index_are_said(atlas):
    add_tiles(atlas, CLUSTERS.drawn(200, seed=4), first=ROWS)
    (note,) = ask(atlas).notes
    assert note.startswith("200 tiles are not in the index")


def test_a_share_without_vectors_is_told_through_the_index_as_well(atlas):
    import pyarrow as pa

    bare = [{"tile_id": f"bare-{i}", "slide_id": "bare"} for i in range(500)]
    with open_writer(atlas.uri, "test") as writer:
        writer.append("tiles", pa.Table.from_pylist(bare, schema=atlas.tiles.schema))
    for _ in range(2):
        result = ask(atlas)
        assert (result.path, result.coverage) == ("index", 0.75)
        assert any("500 of 2,000 tiles have no vector" in note for note in result.notes)
        refresh_index(atlas, *atlas.models, least_rows=1)


@pytest.mark.parametrize("effort", [0, -1, float("nan"), 1e6])
def test_an_impossible_effort_is_refused(effort):
    with pytest.raises(SettingError, match="effort"):
        SearchSettings(effort=effort)


def searched(atlas, *words):
    asked = ["search", tile_name(3), "--atlas", atlas.uri, "--json", *words]
    return CliRunner().invoke(cli.app, asked)


def test_the_command_searches_an_older_version(atlas):
    before = atlas.tiles.version
    add_tiles(atlas, CLUSTERS.drawn(ROWS)[3:4], first=ROWS)
    newer = json.loads(searched(atlas).stdout)
    older = json.loads(searched(atlas, "--as-of", str(before)).stdout)
    assert {hit["tile_id"] for hit in newer["hits"][:2]} == {tile_name(3), tile_name(ROWS)}
    assert tile_name(ROWS) not in {hit["tile_id"] for hit in older["hits"]}
    assert (older["tiles_version"], older["path"]) == (before, "index")
    assert json.loads(searched(atlas, "--exact").stdout)["path"] == "exact"


def test_a_tile_that_came_later_is_not_in_an_older_version(atlas):
    before = atlas.tiles.version
    add_tiles(atlas, CLUSTERS.drawn(10, seed=4), first=ROWS)
    then = dataclasses.replace(atlas, pinned={"tiles": before})
    with pytest.raises(TileNotFound):
        ask(then, ROWS)


def test_maintenance_measures_recall_if_asked(atlas):
    asked = ["maintain", "--atlas", atlas.uri, "--check-recall", "--no-index", "--json"]
    (recall,) = json.loads(CliRunner().invoke(commands, asked).stdout)["recall"]
    assert (recall["model"], recall["path"], recall["sample"], recall["k"]) == (
        "made",
        "index",
        100,
        10,
    )
    assert recall["recall"] > 0.8
