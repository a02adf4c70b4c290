"""Several models on one atlas, and corrections, as they are typed; on a real Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from microtome import cli
from microtome.atlas.atlas import Atlas
from microtome_jobs.made.slides import MadeArchive, MadeSpec, make_slides

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

cli.load_apps()

OTHER = "timm:resnet18@random:0"


def microtome(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [*map(str, words), "--json"])


def told(*words: str | Path) -> dict[str, Any]:
    result = microtome(*words)
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> MadeArchive:
    spec = MadeSpec(slides=2, side_px=1024, bad=False)
    return make_slides(tmp_path_factory.mktemp("slides"), spec)


@pytest.fixture(scope="module")
def atlas(
    archive: MadeArchive, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None
) -> Path:
    """Made slides, indexed with one model, with a further one embedded."""
    atlas = tmp_path_factory.mktemp("two") / "atlas"
    told("index", archive.folder, "--atlas", atlas)
    done = told("embed", "--model", OTHER, "--atlas", atlas)
    assert (done["done"], done["failed"]) == (2, {})
    return atlas


def test_the_vectors_are_bit_for_bit_those_of_an_index_with_that_model(
    archive: MadeArchive, atlas: Path, tmp_path: Path
) -> None:
    told("index", archive.folder, "--atlas", tmp_path / "fresh", "--model", OTHER)

    fresh, both = Atlas.open(str(tmp_path / "fresh")), Atlas.open(str(atlas))
    (model_id,) = fresh.models
    columns = ["tile_id", f"vector_{model_id}"]
    ours, theirs = (one.tiles.to_table(columns=columns).sort_by("tile_id") for one in (both, fresh))
    assert ours == theirs
    assert len(ours) > 0


def test_info_tells_each_models_coverage(atlas: Path) -> None:
    models = told("info", "--atlas", atlas)["models"]

    assert [model["coverage"] for model in models] == [1.0, 1.0]
    shown = CliRunner().invoke(cli.app, ["info", "--atlas", str(atlas)])
    assert shown.output.count("100% of the tiles") == 2


def test_indexing_with_either_model_finds_all_slides_there(
    archive: MadeArchive, atlas: Path
) -> None:
    for words in ([], ["--model", OTHER]):
        again = told("index", archive.folder, "--atlas", atlas, *words)
        assert again["already_done"] == again["wanted"]


def test_indexing_with_a_model_that_is_not_held_names_embed(
    archive: MadeArchive, atlas: Path
) -> None:
    words = ["--atlas", atlas, "--model", "timm:resnet18@random:1"]
    refused = microtome("index", archive.folder, *words)

    error = json.loads(refused.stdout)["error"]
    assert (refused.exit_code, error["cause"]) == (1, "model-mismatch")
    assert "`microtome embed --model" in error["remedy"]


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["embed", "--model", "starter", "--atlas", "nowhere"], 1, "atlas-not-found"),
        (["embed", "--model", "nobody", "--atlas", "nowhere"], 1, "model-not-found"),
        (["embed", "--model", "starter", "--atlas", "x", "--batch-size", "0"], 2, "setting"),
        (["drop-model", "starter", "--atlas", "nowhere"], 1, "atlas-not-found"),
        (["annotate", "nothing.csv", "--atlas", "nowhere"], 1, "source-not-found"),
    ],
)
def test_what_cannot_be_is_said_and_makes_nothing(
    words: list[str], code: int, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = microtome(*words)

    assert (refused.exit_code, json.loads(refused.stdout)["error"]["cause"]) == (code, cause)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_is_applied_and_what_it_changed_is_told(atlas: Path, tmp_path: Path) -> None:
    slide_id = next(
        row["slide_id"] for row in told("slides", "--atlas", atlas)["slides"] if row["tiles"]
    )
    manifest = tmp_path / "more.csv"
    manifest.write_text(f"slide_id,ward\n{slide_id},north\nnobody,south\n")

    shown = CliRunner().invoke(cli.app, ["annotate", str(manifest), "--atlas", str(atlas)])
    again = told("annotate", manifest, "--atlas", atlas)

    assert shown.exit_code == 0
    assert "ward" in shown.output
    assert "row 2 (nobody)" in shown.output
    assert (again["tiles"], again["unknown"]) == ({}, ["row 2 (nobody)"])
    tiles = Atlas.open(str(atlas)).tiles
    assert tiles.count_rows("ward = 'north'") == tiles.count_rows(f"slide_id = '{slide_id}'") > 0


def test_a_model_is_dropped_by_name(atlas: Path) -> None:
    dropped = told("drop-model", OTHER, "--atlas", atlas)

    assert dropped["left"] == ["tissue"]
    assert [model["name"] for model in told("info", "--atlas", atlas)["models"]] == ["tissue"]
    assert microtome("drop-model", "tissue", "--atlas", atlas).exit_code == 2
