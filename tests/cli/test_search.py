"""`microtome search` and `site-bias`: every level, every flag, and what doesn't fit together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from microtome import cli
from microtome.atlas.atlas import Atlas
from microtome.cli_asking import Wish, level_of
from microtome.cli_server import conditions_of
from microtome.errors import SettingError
from microtome.models.backbone import WeightSource
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.checkpoint import save_checkpoint
from microtome.models.lgffem import LGFFEM, LgffemConfig
from microtome.models.registry import load_encoder
from microtome.search.polygon_query import PolygonQuery
from microtome.search.query import (
    CaseQuery,
    ImageQuery,
    Query,
    RegionQuery,
    SlideQuery,
    TileQuery,
)
from support.bare_embed import index_quilts
from support.coloured_atlas import GRID
from support.sited_atlas import MadeSlide, make_atlas, tile_id

cli.load_apps()


def microtome(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def told(*words: str | Path) -> dict[str, Any]:
    done = microtome(*words, "--json")
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def refused(*words: str | Path) -> dict[str, str]:
    done = microtome(*words, "--json")
    assert done.exit_code == 2, done.output
    error: dict[str, str] = json.loads(done.stdout)["error"]
    assert error["remedy"]
    return error


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty cases of one slide with three tiles each, of two sites that their vectors give away."""
    draw = np.random.default_rng(2)
    slides = []
    for number in range(40):
        vectors = draw.normal(size=(3, 6)) + 6 * np.eye(6)[number % 2]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        site = ("north", "south")[number % 2]
        slides.append(MadeSlide(f"s{number}", vectors, f"c{number}", site, batch=number // 4))
    return make_atlas(str(tmp_path_factory.mktemp("cli") / "atlas"), slides).uri


def test_the_atlass_model_can_be_named_as_the_atlas_names_it(atlas: str) -> None:
    (card,) = Atlas.open(atlas).models.values()
    for name in (card.name, card.model_id):
        answer = told("search", tile_id(0), "--atlas", atlas, "--model", name)
        assert answer["model_id"] == card.model_id


def test_hits_are_spread_left_out_and_cut_off(atlas: str) -> None:
    words = ["search", tile_id(0), "--atlas", atlas, "-k", "5", "--exclude", "group:batch"]

    answer = told(*words, "--spread", "case_id=1", "--min-score", "0.5")

    assert len({hit["case_id"] for hit in answer["hits"]}) == 5
    assert all(hit["metadata"]["batch"] != 0 for hit in answer["hits"])
    assert all(hit["score"] >= 0.5 for hit in answer["hits"])


def test_how_far_hits_can_be_trusted_is_told_unasked(atlas: str) -> None:
    answer = told("search", tile_id(0), "--atlas", atlas, "--exclude", "case")

    assert answer["no_good_match"] is False
    assert 0 < answer["threshold"] < 1
    (bias,) = answer["site_bias"]
    assert (bias["column"], bias["value"], bias["excess"]) == ("site", "north", 1.0)


def test_it_stands_below_the_table(atlas: str) -> None:
    done = microtome("search", tile_id(0), "--atlas", atlas, "--exclude", "case")

    assert done.exit_code == 0
    assert "a good match: the best scores 0." in done.stderr
    assert "site bias +1.00: of 10 hits of other cases 100% are north" in done.stderr


def test_it_can_be_left_out_or_asked_otherwise(atlas: str) -> None:
    words = ["search", tile_id(0), "--atlas", atlas, "--exclude", "case"]

    answer = told(*words, "--alpha", "0", "--site-column", "batch")

    assert (answer["no_good_match"], answer["threshold"]) == (None, None)
    assert [bias["column"] for bias in answer["site_bias"]] == ["batch"]


@pytest.mark.parametrize(
    ("query", "words", "level", "name"),
    [
        ("slide:s0", [], "slide", "slide_id"),
        ("case:c0", [], "case", "case_id"),
        ("slide:s0", ["--level", "case"], "case", "case_id"),
        (tile_id(0), ["--level", "slide"], "slide", "slide_id"),
        ("slide:s0", ["--method", "mean"], "slide", "slide_id"),
    ],
)
def test_slides_and_cases_are_found(
    atlas: str, tmp_path: Path, query: str, words: list[str], level: str, name: str
) -> None:
    gallery = tmp_path / "found.html"
    words = ["search", query, "--atlas", atlas, "-k", "3", "--exclude", "case", *words]

    answer = told(*words, "--gallery", str(gallery))

    assert answer["level"] == level
    assert len(answer["hits"]) == 3
    assert all(hit[name] for hit in answer["hits"])
    assert "the atlas holds no thumbnail of the slide" in gallery.read_text(encoding="utf-8")


def test_slides_are_printed_as_a_table(atlas: str) -> None:
    done = microtome("search", "slide:s0", "--atlas", atlas, "-k", "2")

    assert done.exit_code == 0
    assert "2 slides most like slide:s0" in done.stdout


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an atlas of real pictures, and the model that it was embedded by."""
    folder = tmp_path_factory.mktemp("pictured")
    config = LgffemConfig("test_resnet", neck_channels=8, neck_layers=1)
    card = ModelCard(
        name="small",
        architecture=config.to_architecture(),
        preprocessing=Preprocessing(64),
        dim=config.dim,
        weights_sha256="",
        licence="Apache-2.0",
    )
    save_checkpoint(folder / "model", LGFFEM(config, WeightSource("random")), card)
    index_quilts(folder, load_encoder(str(folder / "model")))  # type: ignore[arg-type]
    return folder


def test_a_drawn_region_is_found_shown_and_written(pictured: Path, tmp_path: Path) -> None:
    side = 2 * GRID.tile_px
    ring = [[0, 0], [side, 0], [side, side], [0, side], [0, 0]]
    drawn, found, gallery = (tmp_path / name for name in ("d.geojson", "f.geojson", "g.html"))
    drawn.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    words = ["search", f"a.svs#{drawn}", "--atlas", pictured / "atlas", "-k", "1"]

    answer = told(*words, "--model", pictured / "model", "--geojson", found, "--gallery", gallery)

    assert answer["level"] == "region"
    assert answer["hits"][0]["slide_id"] == "a.svs"
    assert len(json.loads(found.read_text())["features"]) == 1
    assert gallery.read_text(encoding="utf-8").count("data:image/jpeg") == 2


@pytest.mark.parametrize(
    ("query", "level"),
    [
        (ImageQuery("crop.png"), "tile"),
        (TileQuery("0" * 32), "tile"),
        (RegionQuery("a", 0, 0, 9, 9), "tile"),
        (PolygonQuery("a", ((0, 0), (9, 0), (9, 9))), "region"),
        (SlideQuery("a"), "slide"),
        (CaseQuery("A"), "case"),
    ],
)
def test_what_is_found_follows_the_query_unless_it_is_said(query: Query, level: str) -> None:
    assert level_of(Wish(), query) == level
    assert level_of(Wish(level="region"), query) == "region"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--spread", "case_id"], "COLUMN=N"),
        (["--spread", "hospital=1"], "'hospital'"),
        (["--exclude", "patient"], "'patient'"),
        (["--exclude", "group:hospital"], "'hospital'"),
        (["--min-score", "2"], "min_score"),
        (["--alpha", "1"], "alpha"),
        (["--site-column", "hospital"], "'hospital'"),
        (["--method", "mean"], "--method says nothing where a tile is looked for"),
        (["--geojson", "a.geojson"], "--geojson says nothing where a tile"),
        (["--level", "slide", "--spread", "slide_id=1"], "slide_id says nothing where a slide"),
        (["--level", "case", "--spread", "case_id=1"], "case_id says nothing where a case"),
        (["--level", "slide", "--min-score", "0"], "min_score says nothing where slides or cases"),
        (["--level", "region", "--alpha", "0.1"], "--alpha says nothing where a region"),
        (["--level", "region"], "is no region"),
        (["--level", "region", "--geojson", "a.txt"], ".geojson"),
        (["--level", "region", "--geojson", "nowhere/a.geojson"], "no folder"),
        (["--server", "http://localhost:1"], "both are named"),
    ],
)
def test_what_does_not_fit_is_named(atlas: str, words: list[str], says: str) -> None:
    done = microtome("search", tile_id(0), "--atlas", atlas, *words, "--json")

    assert done.exit_code == 2, done.output
    assert says in json.loads(done.stdout)["error"]["message"]


def test_a_level_that_is_none_is_refused(atlas: str) -> None:
    assert microtome("search", tile_id(0), "--atlas", atlas, "--level", "organ").exit_code == 2


def test_somewhere_must_be_searched() -> None:
    assert "neither an atlas nor a server" in refused("search", tile_id(0))["message"]


@pytest.mark.parametrize(
    "words",
    [
        ["--as-of", "2026-01-01"],
        ["--gallery", "a.html"],
        ["--allow-licence", "MIT"],
    ],
)
def test_a_server_is_asked_nothing_that_it_does_not_know(words: list[str]) -> None:
    error = refused("search", tile_id(0), "--server", "http://localhost:1", *words)
    assert error["message"].startswith(words[0])


# what a user writes, what is sent
@pytest.mark.parametrize(
    ("where", "conditions"),
    [
        ("site = 'north'", [("site", "=", "north")]),
        ("site='it''s' and tissue>0.8", [("site", "=", "it's"), ("tissue", ">", 0.8)]),
        ("`odd name` <> -3 AND ok = TRUE", [("odd name", "!=", -3), ("ok", "=", True)]),
        ("site IN ('a', 'b AND c')", [("site", "in", ["a", "b AND c"])]),
        ("batch not in (1,2) AND x <= 5", [("batch", "not_in", [1, 2]), ("x", "<=", 5)]),
    ],
)
def test_a_filter_becomes_conditions(where: str, conditions: list[Any]) -> None:
    assert conditions_of(where) == conditions


@pytest.mark.parametrize(
    "where",
    [
        "",
        "site",
        "site = north",
        "site = 'a' OR site = 'b'",
        "(site = 'a')",
        "site = 'a' AND",
        "site = 'a' AND AND x = 1",
        "site = 'a'; x = 1",
        "site = 'a' x = 1",
        "lower(site) = 'a'",
        "site IN ()",
    ],
)
def test_a_filter_that_says_more_is_refused(where: str) -> None:
    with pytest.raises(SettingError, match="can't be sent to a server"):
        conditions_of(where)


def test_the_site_bias_of_an_atlas(atlas: str) -> None:
    (row,) = told("site-bias", "--atlas", atlas, "-k", "4", "--tiles", "50")["site_bias"]

    assert (row["model"], row["column"], row["tiles"], row["cases"]) == ("made", "site", 50, 40)
    assert row["low"] <= row["excess"] <= row["high"]
    assert row["excess"] > 0.9


def test_the_site_bias_is_a_table_with_a_row_per_column(atlas: str) -> None:
    done = microtome("site-bias", "--atlas", atlas, "--column", "site", "--column", "batch")

    assert done.exit_code == 0, done.output
    assert "what sites explain of the nearest 10" in done.stdout
    assert all(f" {name} " in done.stdout for name in ("site", "batch", "excess"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--column", "hospital"], "'hospital'"),
        (["--column", "scanner"], "doesn't tell tiles of different cases apart"),
        (["--column", "site", "-k", "0"], "k must be"),
        (["--column", "site", "--tiles", "0"], "tiles must be"),
    ],
)
def test_a_site_bias_that_can_not_be_measured(atlas: str, words: list[str], says: str) -> None:
    done = microtome("site-bias", "--atlas", atlas, *words, "--json")

    assert done.exit_code == 2
    assert says in json.loads(done.stdout)["error"]["message"]


def test_an_atlas_without_a_usual_column_wants_one_named(pictured: Path) -> None:
    error = refused("site-bias", "--atlas", pictured / "atlas")
    assert "--column" in error["remedy"]


def test_an_unknown_model_is_answered_with_those_there_are(atlas: str) -> None:
    done = microtome("site-bias", "--atlas", atlas, "--model", "other", "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]["cause"]) == (1, "model-not-found")
