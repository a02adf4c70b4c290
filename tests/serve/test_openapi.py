"""Whatever the OpenAPI document allows or forbids, asked over real HTTP: `make test-api` asks more.

Schemathesis asks each operation by its examples, by the edges of its schema and at random, and
checks statuses, media types, headers, bodies, and that nothing is answered without a token.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from microtome.atlas.atlas import Atlas

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EXAMPLES = int(os.environ.get("MICROTOME_API_EXAMPLES", "3"))
CONFIG = """
seed = 1
continue-on-failure = true
request-timeout = 60.0

[headers]
Authorization = "Bearer {token}"

[phases.stateful]
enabled = false

[generation]
max-examples = {examples}

# What fits the schema may still be refused for what it says: a field that there isn't, a picture
# that is none, a vector of another model; and all that is long, by an ingress with small limits.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 401, 403, 404, 413, 422]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 413, 415, 422]

[dictionaries]
tiles = {{ values = {tiles} }}
slides = {{ values = {slides} }}

[parameters]
"path.tile_id" = {{ dictionary = "tiles", probability = 0.7 }}
"path.slide_id" = {{ dictionary = "slides", probability = 0.7 }}
"""


def test_the_server_does_what_its_document_says(guarded, served_folder: Path, tmp_path: Path):
    atlas = Atlas.open(str(served_folder / "atlas"))
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        CONFIG.format(
            token=guarded.token("schemathesis", "operator"),
            examples=EXAMPLES,
            tiles=atlas.rows("tiles", columns=["tile_id"])["tile_id"].to_pylist(),
            slides=atlas.rows("slides", columns=["slide_id"])["slide_id"].to_pylist(),
        )
    )
    program = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)]
    asked = subprocess.run(
        [*program, "--no-color", "run", f"{guarded.url}/openapi.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=EXAMPLES * 60 + 120,
        check=False,
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    generated, passed = re.search(r"(\d+) generated, (\d+) passed", asked.stdout).groups()
    assert int(generated) == int(passed) > 100
