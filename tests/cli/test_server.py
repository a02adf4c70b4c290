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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a#0,0,9,9", "--gallery", "a.html"], "pictures are read from the atlas's slides"),
        (["a#0,0,9,9", "--geojson", "a.geojson"], "--geojson says nothing where a tile"),
        (["a#0,0,9,9", "--level", "region", "--geojson", "a.txt"], "must end in .geojson"),
        (["slide:a", "--spread", "case_id=1"], "--spread says nothing where a slide"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_sent(
    server: ScriptedServer, words: list[str], says: str
) -> None:
    done = asked(server, *words, "--json")

    assert done.exit_code == 2, done.output
    assert says in json.loads(done.stdout)["error"]["message"]
    assert not server.seen
