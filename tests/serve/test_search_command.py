"""`microtome search --server`, against a real server."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from microtome.cli import app
from support.coloured_atlas import COLOURS
from support.served_atlas import BY_ID

pytestmark = [pytest.mark.ray]


def searched(*arguments: str) -> dict:
    asked = CliRunner().invoke(app, ["search", *arguments, "--json"])
    assert asked.exit_code == 0, asked.output
    return json.loads(asked.stdout)


def test_a_picture_finds_its_colour_through_a_server(server, tmp_path):
    picture = tmp_path / "purple.png"
    Image.new("RGB", (64, 64), COLOURS["purple"]).save(picture)
    found = searched(
        str(picture), "--server", server, "-k", "2", "--where", "site = 'south' AND age > 70"
    )
    hit = found["hits"][0]
    assert hit["slide_id"] == "south/c"
    assert BY_ID["south/c"].colour_at(hit["x"], hit["y"]) == "purple"


def test_what_a_server_refuses_ends_the_command_with_its_reason(server):
    asked = CliRunner().invoke(app, ["search", "0" * 32, "--server", server])
    assert asked.exit_code != 0
    assert "no such tile" in asked.output
