from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome_jobs.change_commands import app
from support.made_atlas import CARD, MadeAtlas, open_or_create


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    """An atlas of two runs of one slide each, that nobody writes to."""
    made = MadeAtlas(str(tmp_path / "atlas"))
    for slide_id in "ab":
        made.run_id = start_run(made.writer, "index", {}, CARD)
        made.committer.commit([made.done(slide_id)])
        finish_run(made.writer, made.run_id, "finished", RunTotals())
    open_or_create(made.uri)
    return made


def call(made: MadeAtlas, *words: str) -> tuple[int, dict[str, object]]:
    result = CliRunner().invoke(app, [*words, "--atlas", made.uri, "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_forget_asks_for_yes_and_forgets(made: MadeAtlas):
    code, answer = call(made, "forget", "--slide", "a")
    assert (code, answer["error"]["cause"]) == (2, "not-confirmed")
    assert "forget the slide a: 1 slides, 5 tiles" in answer["error"]["message"]
    assert set(made.state()) == {"a", "b"}
    assert call(made, "forget", "--slide", "a", "--yes") == (
        0,
        {"slides": 1, "tiles": 5, "already": False},
    )
    assert set(made.state()) == {"b"}
    assert call(made, "forget", "--slide", "a") == (0, {"slides": 0, "tiles": 0, "already": True})


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["forget", "--slide", "nobody", "--yes"], 2, "slide-unknown"),
        (["forget", "--yes"], 2, "setting"),
        (["rollback", "no-run", "--yes"], 1, "atlas-version-not-found"),
    ],
    ids=["slide", "neither", "run"],
)
def test_what_isnt_there_is_said(made: MadeAtlas, words: list[str], code: int, cause: str):
    ended, answer = call(made, *words)
    assert (ended, answer["error"]["cause"]) == (code, cause)
    assert set(made.state()) == {"a", "b"}


def test_a_case_that_has_no_slides_yet_is_kept_out(made: MadeAtlas):
    nothing = {"slides": 0, "tiles": 0}
    told = call(made, "forget", "--case", "nobody", "--yes")
    assert told == (0, nothing | {"already": False})
    assert call(made, "forget", "--case", "nobody") == (0, nothing | {"already": True})


def test_rollback_asks_only_where_later_runs_go_too(made: MadeAtlas):
    runs = sorted(made.atlas.runs.to_table()["run_id"].to_pylist())
    code, answer = call(made, "rollback", runs[-2])
    assert (code, answer["error"]["cause"]) == (2, "not-confirmed")
    assert runs[-1] in answer["error"]["message"]
    code, answer = call(made, "rollback", runs[-1])
    assert (code, answer) == (0, {"undone": [runs[-1]], "slides": 1, "tiles": 5})
    assert set(made.state()) == {"a"}


def test_versions_lists_what_as_of_takes(made: MadeAtlas):
    code, answer = call(made, "versions")
    assert code == 0
    newest, *_ = answer["versions"]
    assert (newest["command"], newest["slides"], newest["tiles"]) == ("index", 2, 10)
    assert made.atlas.at(newest["run_id"]).slides.count_rows() == 2


@pytest.mark.parametrize("command", ["forget", "rollback", "versions"])
def test_help_has_examples(command: str):
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"microtome {command}" in shown.output
