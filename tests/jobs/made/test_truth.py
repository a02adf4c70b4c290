from __future__ import annotations

import numpy as np
import pytest

from microtome_jobs.made.truth import Truth, load_truth, save_truth

CELLS = np.array([[0, 1, 1], [0, 1, 2], [0, 2, 2]], np.uint8)
TRUTH = Truth(("glass", "gland", "mucin"), 10, {"a": CELLS})


@pytest.mark.parametrize(
    ("x", "y", "size_px", "tissue", "share"),
    [
        (10, 0, 10, "gland", 1.0),  # one cell
        (10, 0, 20, "gland", 0.75),  # three cells of four
        (5, 0, 10, "gland", 0.5),  # half glass, half gland
        (12, 14, 10, "mucin", 0.52),  # gland 8 × 6 of 100 px, mucin 2 × 6 + 10 × 4
        (0, 0, 10, "glass", 1.0),
        (-20, -20, 10, "glass", 1.0),  # off the slide
        (25, 25, 10, "mucin", 0.25),  # three quarters off the slide
    ],
)
def test_commonest_tissue_and_its_share(x, y, size_px, tissue, share):
    assert TRUTH.type_at("a", x, y, size_px) == (tissue, pytest.approx(share))


def test_unknown_slide_is_a_key_error():
    with pytest.raises(KeyError, match="b"):
        TRUTH.type_at("b", 0, 0, 10)


def test_truth_survives_the_disk(tmp_path):
    save_truth(tmp_path, TRUTH)
    read = load_truth(tmp_path)
    assert (read.names, read.cell_px) == (TRUTH.names, TRUTH.cell_px)
    assert np.array_equal(read.maps["a"], CELLS)


def test_missing_map_is_named(tmp_path):
    save_truth(tmp_path, TRUTH)
    (tmp_path / "truth" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        load_truth(tmp_path)
