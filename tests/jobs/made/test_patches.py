from __future__ import annotations

import csv
import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from microtome.datasets.labelled import load_dataset, read_image
from microtome.errors import SettingError
from microtome_jobs.made.kinds import random_kind
from microtome_jobs.made.patches import PatchSpec, make_patches, painted
from microtome_jobs.made_commands import app

SPEC = PatchSpec(kinds=5, per_kind=8, side_px=48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("patches")
    make_patches(folder, SPEC)
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_same_seed_same_bytes_and_another_seed_others(folder, tmp_path):
    again = make_patches(tmp_path / "again", SPEC)
    assert again.read_bytes() == (folder / "manifest.csv").read_bytes()  # it holds their hashes
    other = make_patches(tmp_path / "other", PatchSpec(5, 8, 48, seed=1)).parent
    assert not {r["sha256"] for r in rows_of(other)} & {r["sha256"] for r in rows_of(folder)}


def test_the_manifest_is_true_of_every_file(folder):
    rows = rows_of(folder)
    assert {row["path"]: row["sha256"] for row in rows} == {
        f"{file.parent.name}/{file.name}": sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*.jpg")
    }
    assert all(row["path"].split("/")[0] == row["label"] for row in rows)


def test_a_field_is_a_group_and_a_kind_lies_in_one_split(folder):
    labelled = load_dataset(f"folder:{folder}")
    assert len(labelled) == 40
    assert labelled.splits == {"train": 24, "val": 8, "test": 8}
    groups = [row["group"] for row in rows_of(folder)]
    assert {group: groups.count(group) for group in groups} == {
        f"kind{kind:04}-{field:02}": 4 for kind in range(5) for field in range(2)
    }


def test_no_two_patches_are_alike(folder):
    labelled = load_dataset(f"folder:{folder}")
    pixels = [read_image(row) for row in labelled.samples.to_pylist()]
    assert {x.shape for x in pixels} == {(48, 48, 3)}
    assert len({row["sha256"] for row in rows_of(folder)}) == len(pixels)


def test_kinds_share_a_build_where_fields_share_nothing_else():
    """Kind 3 is dense, kind 0 nearly empty, whatever the stain and the place."""

    def dark(number: int, field: int) -> float:
        kind = random_kind(np.random.default_rng([0, 0, number]))
        pixels = painted(np.random.default_rng([1, number, field]), kind, 128)
        return float((pixels[..., 0] < 110).mean())

    sparse, dense = ([dark(number, field) for field in range(4)] for number in (0, 3))
    assert max(sparse) < min(dense)
    assert len(set(dense)) == 4


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kinds": 1}, "kinds"),
        ({"per_kind": 6}, "multiple of 4.*not 6"),
        ({"per_kind": 0}, "per_kind"),
        ({"side_px": 8}, "side_px"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_made_is_named(fields, named):
    with pytest.raises(SettingError, match=named):
        PatchSpec(**fields)


def test_the_command_says_what_it_made(tmp_path):
    words = ["--kinds", "2", "--per-kind", "4", "--side-px", "32", "--json"]
    done = CliRunner().invoke(app, [str(tmp_path / "set"), *words])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["patches"] == len(rows_of(tmp_path / "set")) == 8


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, [str(tmp_path / "file"), "--kinds", "2", "--json"])
    assert done.exit_code == 2
    assert "file" in json.loads(done.stdout)["error"]["message"]
