"""`microtome search` finds the same on a server as in the atlas that it serves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from microtome import cli
from microtome.atlas.atlas import Atlas

pytestmark = [pytest.mark.ray]


def microtome(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def told(*words: str | Path) -> dict[str, Any]:
    done = microtome("search", *words, "--json")
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def hits(*words: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told(*words)["hits"]
    return found


@pytest.fixture(scope="module")
def pink(served_folder: Path) -> str:
    tiles = Atlas.open(str(served_folder / "atlas")).tiles
    where = "slide_id = 'north/a' AND x = 0 AND y = 0"
    return str(tiles.to_table(columns=["tile_id"], filter=where)["tile_id"][0])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-k", "3", "--exclude", "case"],
        ["--where", "site = 'north' AND x >= 64"],
        ["--spread", "site=2", "--min-score", "0.2", "--exact"],
        ["--exclude", "group:site", "--where", "site IN ('north', 'south')"],
    ],
)
def test_a_server_finds_what_the_atlas_holds(
    server: str, served_folder: Path, pink: str, words: list[str]
) -> None:
    there = hits(pink, "--server", server, *words)
    here = hits(pink, "--atlas", served_folder / "atlas", *words)

    assert there
    assert [hit["tile_id"] for hit in there] == [hit["tile_id"] for hit in here]


def test_a_server_tells_how_far_its_hits_can_be_trusted(
    server: str, served_folder: Path, pink: str
) -> None:
    words = [pink, "-k", "12", "--exclude", "case", "--alpha", "0.3", "--site-column", "site"]
    here = told(*words, "--atlas", served_folder / "atlas")
    assert here["verdict"]
    assert [bias["column"] for bias in here["site_bias"]] == ["site"]

    until_s = time.monotonic() + 120.0
    while (there := told(*words, "--server", server))["verdict"] is None:
        assert "isn't known yet" in there["notes"][0]
        assert time.monotonic() < until_s
        time.sleep(0.1)

    for name in ("verdict", "site_bias", "remarks", "notes"):
        assert there[name] == here[name], name


@pytest.mark.parametrize(
    "further",
    [[], ["--spread", "site=1"], ["--level", "case", "--spread", "site=1", "--min-score", "0.1"]],
)
def test_slides_are_asked_of_a_server_too(
    server: str, served_folder: Path, further: list[str]
) -> None:
    words = ["slide:north/a", "-k", "3", "--exclude", "slide", *further]

    there = hits(*words, "--server", server)
    here = hits(*words, "--atlas", served_folder / "atlas")

    assert there
    assert [hit["slides"] for hit in there] == [hit["slides"] for hit in here]


def test_people_read_a_table(server: str, pink: str) -> None:
    done = microtome("search", pink, "--server", server, "-k", "2")

    assert done.exit_code == 0, done.output
    assert f"2 tiles most like {pink}" in done.stdout
    assert "by statistics" in done.stderr
