"""What a worker writes: right rows, durable, invisible, in bounded memory."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microtome.atlas.fragments import FragmentWriter, TileOrigin, tile_rows
from microtome.atlas.schema import vector_column
from microtome.errors import ModelError
from support.made_atlas import CARD, MadeAtlas, content_id, ref_of, slide_of, tiles_of, vectors_of


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    return MadeAtlas(str(tmp_path))


def test_rows_hold_each_tile_with_its_slides_facts(made: MadeAtlas):
    origin = TileOrigin(ref_of("a"), content_id("a"), 32)
    table = tile_rows(made.target, origin, tiles_of(3), vectors_of("a", 3))
    row = table.slice(2, 1).to_pylist()[0]
    vector = row.pop(vector_column(CARD.model_id))
    assert len(row.pop("tile_id")) == 32
    assert row == {
        "slide_id": "a",
        "case_id": "case-1",
        "x": 64,
        "y": 2,
        "size_px": 32,
        "tissue": 0.75,
        "sharpness": 2.0,
        "run_id": made.run_id,
        "organ": "lung",
        "age": 61,
    }
    assert np.allclose(vector, vectors_of("a", 3)[2], atol=1e-3)


def test_columns_nobody_gives_are_null(made: MadeAtlas):
    other = pa.field("vector_other", pa.list_(pa.float16(), 4))
    made.atlas.tiles.add_columns(pa.schema([other, pa.field("site", pa.string())]))
    origin = TileOrigin(ref_of("a"), content_id("a"), 32)
    table = tile_rows(made.target, origin, tiles_of(2), vectors_of("a", 2))
    assert table["vector_other"].null_count == table["site"].null_count == 2


def test_vectors_that_are_not_finite_are_refused(made: MadeAtlas):
    vectors = vectors_of("a", 2)
    vectors[1, 3] = np.nan
    origin = TileOrigin(ref_of("a"), content_id("a"), 32)
    with pytest.raises(ModelError, match="aren't finite for the slide a"):
        tile_rows(made.target, origin, tiles_of(2), vectors)


def test_written_tiles_are_invisible_until_committed(made: MadeAtlas):
    outcome = made.done("a")
    assert made.atlas.tiles.count_rows() == 0
    made.committer.commit([outcome])
    assert made.atlas.tiles.count_rows() == 5


@pytest.mark.parametrize(
    ("batches", "flush_rows", "fragment_rows"),
    [
        ([3, 3, 3], 6, [6, 3]),
        ([3, 3, 3], 9, [9]),
        ([3, 3, 3], 1, [3, 3, 3]),
        ([3, 3, 3], 100, [9]),
        ([], 6, []),
    ],
)
def test_a_fragment_is_written_whenever_there_are_enough_rows(
    made: MadeAtlas, batches: list[int], flush_rows: int, fragment_rows: list[int]
):
    ref = ref_of("a")
    writer = FragmentWriter(made.target, ref, slide_of(ref, "a"), 32, flush_rows=flush_rows)
    for number, count in enumerate(batches):
        writer.add(tiles_of(count, first=3 * number), vectors_of("a", count))
    written = [json.loads(fragment)["physical_rows"] for fragment in writer.close()]
    assert written == fragment_rows
    assert writer.rows == sum(batches)


def test_the_target_travels_small_and_without_secrets(
    made: MadeAtlas, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    sent = pickle.dumps(made.target)
    assert pickle.loads(sent) == made.target
    assert len(sent) < 8192
    assert b"hunter2" not in sent


def test_a_relative_atlas_means_the_same_in_a_worker_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    made = MadeAtlas("atlas")
    target = made.target
    (tmp_path / "worker").mkdir()
    monkeypatch.chdir(tmp_path / "worker")
    ref = ref_of("a")
    writer = FragmentWriter(target, ref, slide_of(ref, "a"), 32)
    writer.add(tiles_of(2), vectors_of("a", 2))
    writer.close()
    assert not list((tmp_path / "worker").iterdir())


OVERFLOW = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from microtome.errors import AtlasWriteFailed
from support.made_atlas import MadeAtlas
made = MadeAtlas("atlas")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
try:
    made.done("a", tiles=2000)
except AtlasWriteFailed as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="the system can't limit a file's size")
def test_a_disk_that_takes_no_more_is_said_plainly(tmp_path: Path):
    support = str(Path(__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", OVERFLOW, support],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = ran.stdout
    assert said.startswith("tiles could not be written to the atlas atlas: the file grew"), ran
    assert str(tmp_path) not in said
