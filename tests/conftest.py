"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _folder_from(variable: str) -> Path:
    """The folder a variable names; the test skips, saying why, where there is none."""
    value = os.environ.get(variable, "")
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} names no folder: real files for tests are not here")
    return Path(value)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real slides and labelled patches; never part of the project."""
    return _folder_from("MICROTOME_TEST_DATA")


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Pretrained weights for timm; never part of the project."""
    return _folder_from("MICROTOME_TEST_WEIGHTS")
