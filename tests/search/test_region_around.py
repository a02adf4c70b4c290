from __future__ import annotations

import lance
import numpy as np
import pyarrow as pa
import pytest

from microtome.config import GridSettings
from microtome.search import region_around
from microtome.search.region_around import Box, Stored

GRID = GridSettings(mpp=0.5, tile_px=224, stride_px=224)
SIDE = 12
DIM = 8


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Of three slides of `SIDE` × `SIDE` tiles, of unit length but for rounding."""
    made = np.random.default_rng(0).normal(size=(3 * SIDE**2, DIM))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def stored(tmp_path, vectors) -> Stored:
    row, column = np.divmod(np.arange(SIDE**2), SIDE)
    table = pa.table(
        {
            "slide_id": np.repeat(["a", "b", "c"], SIDE**2),
            "x": np.tile(448 * column, 3),  # twice as fine as the grid
            "y": np.tile(448 * row, 3),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
        }
    )
    tiles = lance.write_dataset(table, str(tmp_path / "tiles.lance"), enable_stable_row_ids=True)
    return Stored(tiles, "v", GRID, "x < 4480")  # the last two columns don't pass


def box(slide_id: str, middle: float, reach_px: float) -> Box:
    return Box(slide_id, middle, middle, reach_px, factor=2.0)


def test_each_tile_of_a_box_is_compared_with_each_vector(stored, vectors):
    asked = np.eye(DIM, dtype=np.float32)[:3]
    (found,) = stored.compared([box("b", 224.0 * 6, 224.0 * 2)], asked)
    around = found.around
    number = around.at(np.array([[4, 8], [8, 5], [3, 6], [9, 9]]))
    assert (number[:2] >= 0).all()
    assert (number[2:] < 0).all()
    assert len(around.row_ids) == 25
    of_b = SIDE**2 + np.array([8 * SIDE + 4, 5 * SIDE + 8])
    assert found.cosines[number[:2]] == pytest.approx(vectors[of_b][:, :3], abs=1e-3)
    read = stored.vectors(around.row_ids[number[:2]])
    assert read == pytest.approx(vectors[of_b].astype(np.float32), abs=1e-3)


def test_what_does_not_pass_is_not_there(stored):
    (found,) = stored.compared([box("a", 224.0 * 6, 224.0 * 20)], np.eye(DIM, dtype=np.float32))
    assert len(found.around.row_ids) == SIDE * (SIDE - 2)


def test_boxes_of_a_slide_share_its_tiles(stored):
    near = [box("c", 224.0 * middle, 224.0 * 4) for middle in (4, 5, 4, 5, 4, 5)]
    (found,) = stored.compared(near, np.eye(DIM, dtype=np.float32))
    assert found.boxes == tuple(near)
    assert len(found.cosines) == len(set(found.around.row_ids.tolist())) <= SIDE**2


# tiles at once, and how often the table is read for three slides of a hundred or so
@pytest.mark.parametrize(("at_once", "reads"), [(1 << 16, 1), (1, 3), (600, 2)])
def test_many_tiles_are_read_slide_by_slide(stored, monkeypatch, at_once, reads):
    monkeypatch.setattr(region_around, "AT_ONCE", at_once)
    boxes = [box(slide_id, 224.0 * 6, 224.0 * 7) for slide_id in ("a", "b", "c")]
    assert len(list(stored._groups(boxes))) == reads
    found = list(stored.compared(boxes, np.eye(DIM, dtype=np.float32)))
    assert {one.around.slide_id for one in found} == {"a", "b", "c"}
