"""`microtome verify` and `microtome maintain` as scripts and people meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from microtome import cli
from microtome.atlas.atlas import Atlas
from microtome.atlas.calibration_files import read_stored
from microtome.atlas.runs import RunTotals, finish_run
from microtome.engine.index_coding import CodingOnRay
from microtome_jobs.atlas_commands import coder
from support.made_atlas import MadeAtlas

cli.load_apps()


def microtome(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture
def atlas(tmp_path: Path) -> str:
    made = MadeAtlas(str(tmp_path / "atlas"))
    made.committer.commit([made.done("a"), made.done("b", tiles=7), made.empty("e")])
    made.committer.commit([made.done("c")])
    finish_run(made.writer, made.run_id, "finished", RunTotals())
    made.release()
    return made.uri


def damage(atlas: str, where: str) -> None:
    made = MadeAtlas(atlas)
    made.writer.delete("tiles", where)
    finish_run(made.writer, made.run_id, "finished", RunTotals())
    made.release()


def test_a_sound_atlas_passes(atlas: str):
    done = microtome("verify", "--atlas", atlas)
    assert done.exit_code == 0
    assert "everything holds" in done.output
    assert "no tile is there twice" in done.output


def test_scripts_read_the_proof(atlas: str):
    done = microtome("verify", "--atlas", atlas, "--vectors", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["holds"], told["at_work"]) == (0, True, "")
    rows = {check["name"]: check["rows"] for check in told["checks"]}
    assert (rows["counts"], rows["vectors"], rows["slides"]) == (17, 17, 4)
    assert all(check["findings"] == [] for check in told["checks"])


def test_a_broken_promise_is_an_exit_code_and_repair_mends_it(atlas: str):
    damage(atlas, "slide_id = 'b'")
    done = microtome("verify", "--atlas", atlas)
    assert done.exit_code == 1
    assert "1 findings: " in done.output
    told = json.loads(microtome("verify", "--atlas", atlas, "--json").stdout)
    (finding,) = [one for check in told["checks"] for one in check["findings"]]
    assert (finding["check"], finding["subject"], finding["mendable"]) == ("counts", "b", True)

    mended = microtome("verify", "--atlas", atlas, "--repair", "--json")
    told = json.loads(mended.stdout)
    assert (mended.exit_code, told["holds"], told["found"]) == (0, True, ["counts: b"])
    assert told["actions"] == ["withdrew 1 slides, to be indexed again: b"]
    assert microtome("verify", "--atlas", atlas).exit_code == 0


def test_repair_says_what_it_did(atlas: str):
    damage(atlas, "slide_id = 'b'")
    done = microtome("verify", "--atlas", atlas, "--repair")
    assert done.exit_code == 0
    assert "mended: withdrew 1 slides" in done.output


def test_maintenance_says_what_it_did(atlas: str):
    done = microtome("maintain", "--atlas", atlas, "--retention-days", "0.00001")
    assert done.exit_code == 0
    assert "fragments of tiles" in done.output
    assert microtome("verify", "--atlas", atlas).exit_code == 0


def test_scripts_read_what_maintenance_did(atlas: str):
    told = json.loads(microtome("maintain", "--atlas", atlas, "--no-index", "--json").stdout)
    assert [step["name"] for step in told["steps"]] == [
        "forget",
        "untag",
        "compact",
        "prune",
        "leftovers",
    ]
    assert (told["before"]["tiles"]["fragments"], told["after"]["tiles"]["fragments"]) == (3, 1)


@pytest.mark.parametrize("command", [["verify"], ["verify", "--repair"], ["maintain"]])
def test_there_must_be_an_atlas(tmp_path: Path, command: list[str]):
    done = microtome(*command, "--atlas", tmp_path / "nothing", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["cause"] == "atlas-not-found"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("command", [["verify", "--repair"], ["maintain"]])
def test_another_job_is_not_disturbed(atlas: str, command: list[str]):
    made = MadeAtlas(atlas)
    done = microtome(*command, "--atlas", atlas, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["cause"] == "atlas-busy"
    looked = microtome("verify", "--atlas", atlas, "--json")
    assert (looked.exit_code, json.loads(looked.stdout)["at_work"][:8]) == (0, "test on ")
    made.release()


def test_a_wrong_retention_time_is_named(atlas: str):
    done = microtome("maintain", "--atlas", atlas, "--retention-days", "-1", "--json")
    assert done.exit_code == 2
    assert "retention" in json.loads(done.stdout)["error"]["message"]


def test_an_unknown_kind_of_index_is_named(atlas: str):
    done = microtome("maintain", "--atlas", atlas, "--index", "faiss", "--json")
    assert done.exit_code == 2
    assert "ivf_hnsw_sq" in json.loads(done.stdout)["error"]["message"]


def test_recall_is_measured_where_it_is_asked_for(atlas: str):
    done = microtome("maintain", "--atlas", atlas, "--check-recall", "--json")
    (recall,) = json.loads(done.stdout)["recall"]
    assert (recall["recall"], recall["path"]) == (1.0, "exact")


@pytest.fixture
def two_cases(tmp_path: Path) -> str:
    made = MadeAtlas(str(tmp_path / "two"))
    made.committer.commit([made.done("a", case_id="A"), made.done("b", case_id="B")])
    finish_run(made.writer, made.run_id, "finished", RunTotals())
    made.release()
    return made.uri


def steps(*words: str) -> dict[str, str]:
    told = json.loads(microtome("maintain", *words, "--json").stdout)
    return {step["name"]: step["did"] for step in told["steps"]}


def test_maintaining_samples_the_scores_that_searches_are_judged_by(two_cases: str):
    (model_id,) = Atlas.open(two_cases).models
    assert "calibrate" not in steps("--atlas", two_cases, "--no-index")
    assert steps("--atlas", two_cases)["calibrate"].startswith("the usual scores of made")
    assert len(read_stored(two_cases, model_id).scores["case_id"]) == 10
    assert steps("--atlas", two_cases)["calibrate"] == ""


@pytest.mark.parametrize(
    ("workers", "address", "on_ray"), [(0, "", False), (3, "", True), (0, "auto", True)]
)
def test_ray_codes_vectors_only_where_it_is_asked_for(
    workers: int, address: str, on_ray: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert (coder(workers) == CodingOnRay(workers)) == on_ray


def test_fewer_than_no_workers_are_refused(atlas: str):
    done = microtome("maintain", "--atlas", atlas, "--workers", "-1")
    assert (done.exit_code, "workers" in done.output) == (2, True)
