from __future__ import annotations

import numpy as np
import pytest

from microtome.tiles.batch import TileBatch


def parts(count: int = 3) -> dict[str, np.ndarray]:
    return {
        "pixels": np.zeros((count, 8, 8, 3), np.uint8),
        "corners": np.zeros((count, 2), np.int64),
        "tissue": np.zeros(count, np.float32),
        "sharpness": np.zeros(count, np.float32),
    }


def test_a_batch_is_as_long_as_its_tiles():
    assert len(TileBatch(**parts(3))) == 3
    assert len(TileBatch(**parts(0))) == 0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("pixels", np.zeros((3, 8, 8, 3), np.float32)),
        ("pixels", np.zeros((3, 8, 8), np.uint8)),
        ("pixels", np.zeros((3, 8, 8, 4), np.uint8)),
        ("corners", np.zeros((2, 2), np.int64)),
        ("tissue", np.zeros(4, np.float32)),
        ("sharpness", np.zeros((3, 1), np.float32)),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(name: str, wrong: np.ndarray):
    with pytest.raises(ValueError, match=f"{name} must be"):
        TileBatch(**{**parts(3), name: wrong})
