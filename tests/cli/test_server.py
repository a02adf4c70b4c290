"""`microtome search --server`: what is sent, and what is made of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from microtome import cli
from support.scripted_server import Reply, ScriptedServer, scripted_server

cli.load_apps()

CORNERS = [[0.0, 0.0], [90.0, 0.0], [90.0, 95.5]]
FACTS = {
    "model_id": "m",
    "model_name": "made",
    "tiles_version": 3,
    "coverage": 1.0,
    "notes": [],
    "next_offset": None,
}
TILE = "0f" * 16
REGION = {
    "slide_id": "a",
    "case_id": None,
    "polygon": CORNERS,
    "score": 0.75,
    "similarity": 0.75,
    "coverage": 1.0,
    "angle_deg": 90.0,
    "flipped": False,
    "tiles": [],
    "metadata": {},
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


def answers(server: ScriptedServer, level: str, *hits: dict[str, Any]) -> None:
    answer = FACTS | {"level": level, "hits": list(hits)}
    server.replies = [Reply(body={"results": [answer]})]


def asked(server: ScriptedServer, *words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["search", *map(str, words), "--server", server.url])


def sent(server: ScriptedServer) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(server.seen[-1][3])
    return told


def test_the_way_in_which_slides_are_compared_is_sent(server: ScriptedServer) -> None:
    answers(server, "slide")

    done = asked(server, "slide:a", "--method", "mean")

    assert done.exit_code == 0, done.output
    assert sent(server)["method"] == "mean"


def test_a_drawn_outline_is_sent_and_what_it_finds_is_written(
    server: ScriptedServer, tmp_path: Path
) -> None:
    answers(server, "region", REGION, REGION | {"slide_id": "b", "score": 0.5})
    drawn, found = tmp_path / "drawn.geojson", tmp_path / "found.geojson"
    drawn.write_text(json.dumps({"type": "Polygon", "coordinates": [[*CORNERS, CORNERS[0]]]}))

    done = asked(server, f"a#{drawn}", "--geojson", found)

    assert done.exit_code == 0, done.output
    (query,) = sent(server)["queries"]
    assert query == {"kind": "polygon", "slide_id": "a", "corners": CORNERS}
    features = json.loads(found.read_text())["features"]
    assert features[0]["geometry"]["coordinates"] == [[*CORNERS, CORNERS[0]]]
    assert [one["properties"]["slide_id"] for one in features] == ["a", "b"]
    assert [one["properties"]["rank"] for one in features] == [1, 2]


def test_slides_are_spread_by_the_server(server: ScriptedServer) -> None:
    answers(server, "slide")

    done = asked(server, "slide:a", "--spread", "case_id=2", "--method", "mean")

    assert done.exit_code == 0, done.output
    assert sent(server)["spread"] == {"field": "case_id", "most": 2}
    assert not {"alpha", "site_columns"} & set(sent(server))


# the flags, what is asked for, and of how many requests
@pytest.mark.parametrize(
    ("words", "alpha", "columns", "requests"),
    [
        ([TILE], 0.05, [], 1),
        ([TILE, "--alpha", "0", "--site-column", "batch"], None, ["batch"], 1),
        (["a#0,0,9,9", "--alpha", "0.1"], 0.1, ["site", "Scanner"], 2),
    ],
)
def test_how_far_tiles_can_be_trusted_is_asked_and_told_as_of_an_atlas(
    server: ScriptedServer, words: list[str], alpha: float, columns: list[str], requests: int
) -> None:
    fields = {"slide_id": "string", "site": "string", "batch": "int64", "Scanner": "string"}
    facts = {"tiles_version": 3, "grid": {}, "models": [], "answers": "m", "fields": fields}
    told = {"remarks": ["a good match: the best scores 0.9"], "notes": ["a note"], "hits": []}
    result = Reply(body={"results": [FACTS | {"level": "tile"} | told]})
    counts = {"tiles": 1, "slides": 1, "cases": 1}
    server.replies = [Reply(body=facts | counts), result][2 - requests :]

    done = asked(server, *words)

    assert done.exit_code == 0, done.output
    assert (sent(server)["alpha"], sent(server)["site_columns"]) == (alpha, columns)
    assert "a good match: the best scores 0.9\na note" in done.stderr
    assert len(server.seen) == requests


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a#0,0,9,9", "--gallery", "a.html"], "pictures are read from the atlas's slides"),
        (["a#0,0,9,9", "--geojson", "a.geojson"], "--geojson says nothing where a tile"),
        (["a#0,0,9,9", "--level", "region", "--geojson", "a.txt"], "must end in .geojson"),
        (["slide:a", "--alpha", "0.1"], "--alpha says nothing where a slide"),
        ([TILE, "--alpha", "nan"], "alpha must be between 0 and 1"),
        ([TILE, "--alpha", "-1"], "alpha must be between 0 and 1"),
        ([TILE, "--min-score", "nan"], "min_score must be between -1 and 1"),
        (["slide:a", "--min-score", "2"], "min_score must be between -1 and 1"),
        (["a#0,0,9,9", "--query-mpp", "nan"], "query_mpp must be above 0"),
        ([TILE, "--spread", "case_id"], "COLUMN=N"),
        ([TILE, "--exclude", "patient"], "'patient'"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_sent(
    server: ScriptedServer, words: list[str], says: str
) -> None:
    done = asked(server, *words, "--json")

    assert done.exit_code == 2, done.output
    assert says in json.loads(done.stdout)["error"]["message"]
    assert not server.seen
