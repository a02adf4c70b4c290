"""The same pixels on both sides of a split are found, whatever file holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from microtome.datasets.duplicates import duplicates, pixel_hashes
from microtome.datasets.labelled import load_dataset
from support.labelled_sets import encoded, picture


def test_pairs_are_found_across_two_sets() -> None:
    assert duplicates(["x", "y", "x"], ["z", "x", "y", "x"]) == [
        (0, 1),
        (0, 3),
        (1, 2),
        (2, 1),
        (2, 3),
    ]


def test_within_a_set_each_pair_is_named_once() -> None:
    hashes = ["x", "y", "x", "x"]

    assert duplicates(hashes, hashes) == [(0, 2), (0, 3), (2, 3)]


def test_pixels_count_not_files(tmp_path: Path) -> None:
    tall = np.ascontiguousarray(picture(1).reshape(8, 32, 3))
    for name, content in {
        "a/1.png": encoded(picture(1)),
        "b/2.bmp": encoded(picture(1), "BMP"),
        "b/3.png": encoded(picture(2)),
        "b/4.png": encoded(tall),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)

    hashes = pixel_hashes(load_dataset(f"folder:{tmp_path}"))

    assert duplicates(hashes, hashes) == [(0, 1)]
