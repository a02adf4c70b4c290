"""`microtome data`, as scripts and people meet it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from microtome.cli import app
from microtome.datasets.catalogue import KINDS
from support.labelled_sets import write_pannuke, write_pictures


def microtome(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", *(str(word) for word in words)])


def test_every_kind_is_listed_with_its_home() -> None:
    listed = json.loads(microtome("list", "--json").stdout)["sets"]

    assert [row["spec"] for row in listed] == [
        *(f"{kind}:PATH" for kind in KINDS),
        "atlas:URI#COLUMN",
    ]
    assert "kimia24c:PATH" in microtome("list").stdout


def test_a_set_is_shown_by_class_and_split(tmp_path: Path) -> None:
    write_pictures(
        tmp_path,
        ["train/0_N/BRACS_1_N_1.png", "train/0_N/BRACS_1_N_2.png", "test/6_IC/BRACS_2_IC_1.png"],
    )

    shown = json.loads(microtome("show", f"bracs:{tmp_path}", "--json").stdout)

    assert shown["images"] == 3
    assert shown["splits"] == {"test": 1, "train": 2}
    assert shown["classes"][0] == {"class": "N", "test": 0, "train": 2}
    assert shown["classes"][6] == {"class": "IC", "test": 1, "train": 0}
    assert (shown["groups"], shown["grouped_by"], shown["mpp"]) == (2, "slide", 0.25)
    assert any("val holds 0 of 312" in note for note in shown["notes"])


def test_people_see_counts_and_what_is_missing(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["Photos/Benign/b001.tif"])

    shown = microtome("show", f"bach:{tmp_path}")

    assert shown.exit_code == 0
    for said in ("BACH (ICIAR 2018)", "0.42", "InSitu", "nobody says", "1 of 400"):
        assert said in shown.output


def test_a_thousand_classes_are_counted_not_listed(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"class-{number}/1.png" for number in range(60)])

    shown = microtome("show", f"folder:{tmp_path}").output

    assert "60" in shown
    assert "class-7" not in shown


@pytest.mark.parametrize(
    ("spec", "cause", "code"),
    [
        ("nonsense", "setting", 2),
        ("bach:{}/gone", "dataset-not-found", 1),
        ("bach:{}", "dataset-invalid", 1),
        ("atlas:{}/gone#organ", "atlas-not-found", 1),
    ],
)
def test_what_can_t_be_read_is_one_json_error(
    tmp_path: Path, spec: str, cause: str, code: int
) -> None:
    (tmp_path / "readme.txt").write_text("nothing")

    done = microtome("show", spec.format(tmp_path), "--json")

    assert done.exit_code == code
    assert json.loads(done.stdout)["error"]["cause"] == cause


def test_an_import_without_pathml_says_how_to_get_it(tmp_path: Path) -> None:
    write_pannuke(tmp_path / "published", {1: ("Lung",), 2: ("Lung",), 3: ("Lung",)})
    words = ("import-pannuke", tmp_path / "published", tmp_path / "out", "--json", "--python")

    absent = microtome(*words, tmp_path / "python")
    other = microtome(*words, sys.executable)

    assert absent.exit_code == 2
    assert "make pathml-env" in json.loads(absent.stdout)["error"]["remedy"]
    assert json.loads(other.stdout)["error"]["cause"] == "dataset"
