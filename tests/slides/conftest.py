"""Slides made for these tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microtome_jobs.made.pyramid import PyramidSpec, write_pyramid


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """A smooth picture of 700 × 500 px: red grows to the right, green downwards."""
    down, right = np.mgrid[0:500, 0:700]
    channels = [right * 255 // 699, down * 255 // 499, np.full_like(right, 128)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture(scope="session")
def svs(tmp_path_factory: pytest.TempPathFactory, picture: np.ndarray) -> Path:
    """The picture as an Aperio slide of two levels, 0.5 µm per pixel, 20×."""
    path = tmp_path_factory.mktemp("slides") / "made.svs"
    write_pyramid(path, picture, PyramidSpec(levels=2))
    return path
