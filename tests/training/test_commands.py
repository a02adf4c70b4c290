"""`microtome train` as a user meets it, without a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from microtome_training.commands import app
from microtome_training.reading import shipped_recipes

RUN = CliRunner()


def test_shipped_recipes_are_listed() -> None:
    done = RUN.invoke(app, ["--list", "--json"])
    assert done.exit_code == 0
    assert [row["recipe"] for row in json.loads(done.stdout)["recipes"]] == shipped_recipes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a recipe"),
        (["folder-cgd"], "names no images"),
        (["folder-cgd", "--set", "fit.epoch=1"], "unknown key fit.epoch"),
        (["folder-cgd", "--data", "folder:x", "--workers", "-1"], "workers must be"),
        (["folder-cgd", "--data", "folder:x", "--workers", "3", "--max-workers", "2"], "max_wor"),
        (["folder-cgd", "--data", "lake:x"], "names no labelled set"),
    ],
)
def test_a_wrong_setting_ends_before_any_work(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = RUN.invoke(app, [*arguments, "--json"])
    assert done.exit_code == 2
    assert message in json.loads(done.stdout)["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_weights_that_may_not_be_used_are_refused_before_any_work(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["kimia-reference", "--data", "folder:x", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["cause"] == "licence-refused"


def test_a_ray_job_names_the_command_as_microtome_does() -> None:
    command = [sys.executable, "-m", "microtome_training", "train", "--list", "--json"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout)["recipes"]
