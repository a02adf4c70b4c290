"""`microtome evaluate`, as scripts and people meet it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from microtome.evaluation.protocols import PROTOCOLS
from microtome_jobs.evaluate_commands import app
from support.coloured_atlas import MeanColour, make_atlas
from support.labelled_sets import write_pictures
from support.made_patches import write_patches


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def answer(*words: str | Path) -> dict[str, Any]:
    done = call(*words, "--json")
    assert done.exit_code == 0, done.output
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), groups=5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_the_protocols_are_listed_with_their_definitions() -> None:
    listed = json.loads(call("--list", "--json").stdout)["protocols"]
    assert [row["protocol"] for row in listed] == list(PROTOCOLS)
    assert all(len(row["definition"]) > 100 for row in listed)
    assert "kimia24c" in call("--list").stdout


def test_models_and_peers_stand_in_one_table_and_on_one_page(
    patches: Path, cache: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    words = ("folder", "--data", patches, "--cache", cache, "--peers", "--page", page)

    facts = answer(*words, "--model", "tissue", "--model", "timm:test_resnet@random:0")

    models = ["tissue", "timm:test_resnet@random:0", "colour histogram", "random vectors"]
    assert list(dict.fromkeys(row["model"] for row in facts["results"])) == models
    assert [arm["arm"] for arm in facts["arms"]] == ["leave one image out", "leave one group out"]
    assert [one["model"] for one in facts["collapse"]] == models
    for row in facts["results"]:
        first = row["metrics"]["R@1"]
        assert 0 <= first["low"] <= first["value"] <= first["high"] <= 1
        assert first["by"] == "group"
    notes = " ".join(facts["notes"])
    assert "no ImageNet backbone among the peers: no weights were named" in notes
    assert "no LGFFEM among the peers" in notes
    html = page.read_text(encoding="utf-8")
    assert all(model in html for model in models)
    assert not re.search(re.escape(str(patches)) + "|" + re.escape(str(cache)), html)


def test_people_get_a_table_and_sentences(patches: Path, cache: Path) -> None:
    done = call("folder", "--data", patches, "--cache", cache)
    assert done.exit_code == 0
    for said in (
        "leave one group out",
        "(chance)",
        "drawn from 15 groups",
        "R@1",
        "mMV@5",
        "tissue: R@1 is",
    ):
        assert said in done.output


def test_a_copy_of_a_query_in_the_gallery_is_leakage(tmp_path: Path, cache: Path) -> None:
    """Of another format and under another patient's name."""
    folder = write_patches(tmp_path / "set", groups=4)
    manifest = folder / "manifest.csv"
    Image.open(folder / "c0" / "00.png").save(folder / "c0" / "copy.bmp")
    manifest.write_text(manifest.read_text() + "c0/copy.bmp,c0,somebody else\n")

    facts = answer("folder", "--data", folder, "--cache", cache)

    leakage = facts["arms"][-1]["leakage"]
    assert leakage["found"] is True
    assert leakage["same_pixels"]["queries"] == 2
    assert leakage["same_vector"]["queries"] + leakage["near_vector"]["queries"] >= 2
    assert ["c0/00.png", "c0/copy.bmp"] in leakage["same_pixels"]["examples"]
    assert any("2 of 25 queries have their very pixels" in note for note in facts["notes"])


def test_given_vectors_are_scored(tmp_path: Path) -> None:
    labels = np.arange(12) % 3
    vectors = np.eye(3)[labels]
    np.savez(tmp_path / "v.npz", vectors=vectors, labels=labels, slide=np.arange(12) // 3)
    words = ("folder", "--vectors", tmp_path / "v.npz", "--group", "slide", "--peers", "-k", "1")

    facts = answer(*words, "-k", "3")

    given, chance = (facts["results"][place] for place in (1, 3))
    assert (given["model"], given["arm"]) == ("v.npz", "leave one slide out")
    assert given["metrics"]["R@1"]["value"] == given["metrics"]["mAP@R"]["value"] == 1.0
    assert chance["metrics"]["R@1"]["value"] < 1
    assert {name for name in given["metrics"] if name.startswith("R@")} == {"R@1", "R@3"}
    assert any("there are no pictures" in note for note in facts["notes"])
    # Vectors that are the class are all copies of one another, and that is leakage, too.
    assert facts["arms"][1]["leakage"]["same_vector"]["queries"] == 12


def test_an_atlas_is_judged_by_its_own_vectors(tmp_path: Path) -> None:
    uri = make_atlas(tmp_path, MeanColour()).uri
    words = ("atlas", "--data", f"atlas:{uri}#organ", "--peers", "--cache", tmp_path / "cache")
    facts = answer(*words)
    models = [row["model"] for row in facts["results"]]
    assert models == ["mean-colour", "colour histogram", "random vectors"]
    assert facts["data"]["grouped_by"] == "case"


def test_an_atlas_whose_slides_are_gone_is_judged_all_the_same(tmp_path: Path) -> None:
    uri = make_atlas(tmp_path, MeanColour()).uri
    for slide in tmp_path.glob("*.svs"):
        slide.unlink()

    facts = answer("atlas", "--data", f"{uri}#organ", "--peers", "--cache", tmp_path / "cache")

    assert [row["model"] for row in facts["results"]] == ["mean-colour", "random vectors"]
    assert any("no colour histogram among the peers" in note for note in facts["notes"])


def test_a_limit_is_said(patches: Path, cache: Path) -> None:
    facts = answer("folder", "--data", patches, "--cache", cache, "--limit", "9")
    assert facts["data"]["images"] == 9
    assert any("these aren't the protocol's figures" in note for note in facts["notes"])


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["--data", "x"], 2, "setting"),
        (["kimia", "--data", "x"], 2, "setting"),
        (["folder"], 2, "setting"),
        (["folder", "--data", "x", "--vectors", "y"], 2, "setting"),
        (["folder", "--vectors", "y.npz", "--model", "tissue"], 2, "setting"),
        (["folder", "--data", "x", "--labels", "y"], 2, "setting"),
        (["folder", "--data", "x", "--page", "page.pdf"], 2, "setting"),
        (["folder", "--data", "gone"], 1, "dataset-not-found"),
        (["folder", "--vectors", "gone.npz"], 1, "dataset-not-found"),
        (["folder", "--vectors", "{}"], 2, "setting"),
        (["bracs", "--data", "{}"], 1, "dataset-invalid"),
        (["folder", "--data", "{}", "--group", "patient"], 2, "setting"),
        (["folder", "--data", "{}", "--group", r"c0/(\d+)"], 1, "split-impossible"),
        (["folder", "--data", "{}", "--model", "nobody"], 1, "model-not-found"),
        (["folder", "--data", "{}", "--model", "tissue", "--model", "tissue"], 2, "setting"),
        (["folder", "--data", "{}", "-k", "0"], 2, "setting"),
        (["folder", "--data", "{}", "--limit", "1"], 2, "setting"),
        (["atlas", "--data", "gone#organ"], 1, "atlas-not-found"),
    ],
)
def test_what_can_t_be_judged_is_one_json_error(
    words: list[str], code: int, cause: str, patches: Path, cache: Path,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = call(*(word.format(patches) for word in words), "--cache", cache, "--json")
    assert done.exit_code == code, done.output
    assert json.loads(done.stdout)["error"]["cause"] == cause


@pytest.mark.parametrize(
    "words",
    [["folder", "-k", "0"], ["folder", "--seed", "-1"], ["pannuke"], ["bach", "--group", "x"]],
    ids=["k", "seed", "one fold", "group"],
)
def test_what_can_t_be_judged_is_refused_before_anything_is_embedded(
    words: list[str], tmp_path: Path
) -> None:
    data = write_pictures(tmp_path / "set", [f"images/fold1_{i}_Lung.png" for i in range(4)])
    done = call(*words, "--data", data, "--cache", tmp_path / "cache", "--json")
    assert json.loads(done.stdout)["error"]["cause"] == "setting"
    assert not (tmp_path / "cache").exists()


def test_classes_without_a_second_patient_are_refused_before_anything_is_embedded(
    tmp_path: Path,
) -> None:
    data = write_pictures(tmp_path / "set", [f"Grade{i}_Patient_{i}.png" for i in (1, 2, 3)])
    done = call("crc", "--data", data, "--cache", tmp_path / "cache", "--json")
    assert json.loads(done.stdout)["error"]["cause"] == "nothing-to-find"
    assert not (tmp_path / "cache").exists()


def test_a_page_that_can_t_be_written_after_all_loses_no_results(
    patches: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk shows only at the end: here a folder that takes the page's name meanwhile."""
    page = tmp_path / "page.html"
    monkeypatch.setattr("microtome.evaluation.page.check_page_path", lambda _: None)
    page.mkdir()

    done = call("folder", "--data", patches, "--cache", cache, "--page", page, "--json")

    assert done.exit_code == 2
    assert json.loads(done.stdout)["results"]
    assert "can't be written: Is a directory" in " ".join(done.stderr.split())


def test_a_page_that_can_t_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    done = call("folder", "--data", "gone", "--page", tmp_path / "page.html", "--json")
    assert "may not be written there" in json.loads(done.stdout)["error"]["message"]


def test_k_needn_t_hold_1(patches: Path, cache: Path) -> None:
    facts = answer("folder", "--data", patches, "--cache", cache, "-k", "5")
    assert facts["collapse"][0]["queries"] > 0


def test_breakhis_shows_what_leaving_an_image_out_hides(real_data: Path, cache: Path) -> None:
    """81 images of 27 slides of 23 patients, whose class is nearly the slide's."""
    words = ("folder", "--data", real_data / "patches" / "breakhis100x", "--cache", cache)

    by_patient = answer(*words, "--group", r"(?P<patient>\d+-\d+)[A-Z]*-100-")
    by_slide = answer(*words, "--group", "group")

    assert (by_patient["data"]["groups"], by_slide["data"]["groups"]) == (23, 27)
    for facts in (by_patient, by_slide):
        (collapse,) = facts["collapse"]
        assert collapse["R@1"]["own group to be found"] > 0.65
        assert collapse["R@1"]["own group left out"] < 0.25
        assert collapse["certain"] is True
        assert "finding each other" in collapse["sentence"]
    assert "images of one patient finding each other" in by_patient["collapse"][0]["sentence"]


def test_an_imagenet_backbone_is_a_peer(real_weights: Path, patches: Path, cache: Path) -> None:
    file = next(real_weights.glob("*.safetensors"))
    model = f"timm:mobilenetv2_100@file:{file}"
    facts = answer("folder", "--data", patches, "--model", model, "--peers", "--cache", cache)
    assert facts["results"][0]["model"] == f"timm:mobilenetv2_100 ({file.name})"
    assert not any("ImageNet" in note for note in facts["notes"])
    assert str(real_weights) not in json.dumps(facts)


def test_two_folders_of_one_name_are_told_apart(patches: Path, cache: Path, tmp_path: Path) -> None:
    from microtome.models.registry import SHIPPED

    for name in ("a", "b"):
        shutil.copytree(SHIPPED / "tissue", tmp_path / name / "model")
    twice = ("--model", tmp_path / "a" / "model", "--model", tmp_path / "b" / "model")
    done = call("folder", "--data", patches, *twice, "--cache", cache, "--json")
    assert "named twice" in json.loads(done.stdout)["error"]["message"]
