"""A whole job on an object store that a settings file names, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from microtome import cli
from microtome.atlas.atlas import Atlas
from microtome.config import STORAGE_VARIABLES
from microtome.models.registry import SHIPPED
from microtome_jobs.made.slides import MadeSpec, make_slides
from support.object_store import ObjectStore

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

cli.load_apps()


def microtome(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [*map(str, words), "--json"])


@pytest.fixture
def settings(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that says where the store is, which no variable does."""
    for variables in STORAGE_VARIABLES.values():
        for name in variables:
            monkeypatch.setenv(name, "")  # the command sets it: it is unset again afterwards
            monkeypatch.delenv(name)
    path = tmp_path / "site.toml"
    path.write_text(f'[storage]\nendpoint = "{s3.endpoint}"\nregion = "us-east-1"\n')
    return path


def test_an_atlas_in_a_bucket_is_indexed_and_searched_like_one_in_a_folder(
    s3: ObjectStore, settings: Path, tmp_path: Path
) -> None:
    """By a model that lies in a bucket, too."""
    archive = make_slides(tmp_path / "slides", MadeSpec(slides=1, side_px=1024, bad=False))
    bucket = s3.bucket({f"best/{file.name}": file for file in (SHIPPED / "tissue").iterdir()})
    atlas, config = f"{bucket}/atlas", ["--config", settings, "--model", f"{bucket}/best"]

    done = microtome("index", archive.folder, "--atlas", atlas, *config)
    again = microtome("index", archive.folder, "--atlas", atlas, *config)
    tiles = Atlas.open(atlas).tiles.to_table(columns=["tile_id"])["tile_id"].to_pylist()
    found = microtome("search", tiles[0], "--atlas", atlas, "-k", "2", *config)

    assert (done.exit_code, again.exit_code, found.exit_code) == (0, 0, 0), done.output
    assert json.loads(done.stdout)["tiles"] == len(tiles) == len(set(tiles))
    assert json.loads(again.stdout)["already_done"] == 1
    assert json.loads(found.stdout)["hits"]
    said = done.output + again.output + found.output + str(Atlas.open(atlas).runs.to_table())
    assert "test-secret" not in said
