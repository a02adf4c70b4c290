"""PanNuke imported through PathML in its own environment, where there is one."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from microtome.datasets.labelled import load_dataset, read_image
from microtome.datasets.pathml import PYTHON, STAGE, import_pannuke
from microtome.errors import DatasetError, DatasetInvalid, SettingError
from support.labelled_sets import write_pannuke

FOLDS = {1: ("Breast", "Adrenal_gland"), 2: ("Bile-duct",), 3: ("HeadNeck",)}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def pathml_python() -> str:
    """PathML's Python; the test skips where `make pathml-env` wasn't run."""
    python = Path(os.environ.get("MICROTOME_PATHML_PYTHON") or ROOT / PYTHON)
    if not python.exists():
        pytest.skip(f"PathML has no environment here: run `make pathml-env` ({python.name})")
    return str(python)


@pytest.mark.slow
def test_pathml_s_import_is_the_same_pictures(tmp_path: Path, pathml_python: str) -> None:
    published = write_pannuke(tmp_path / "published", FOLDS)

    imported = import_pannuke(str(published), str(tmp_path / "out" / "imported"), pathml_python)

    native = load_dataset(f"pannuke:{published}")
    assert imported.labels.tolist() == native.labels.tolist()
    assert imported.splits == native.splits
    for ours, theirs in zip(native.samples.to_pylist(), imported.samples.to_pylist(), strict=True):
        assert theirs["uri"].endswith(".png")
        assert np.array_equal(read_image(theirs), read_image(ours))
    assert len(list((tmp_path / "out" / "imported" / "masks").iterdir())) == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"imported"}


def test_a_python_without_pathml_leaves_nothing_behind(tmp_path: Path) -> None:
    published = write_pannuke(tmp_path / "published", FOLDS)

    with pytest.raises(DatasetError, match="No module named 'pathml'"):
        import_pannuke(str(published), str(tmp_path / "out" / "imported"), sys.executable)

    assert not list((tmp_path / "out").iterdir())
    assert len(load_dataset(f"pannuke:{published}")) == 4


def test_no_python_of_pathml_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="make pathml-env"):
        import_pannuke(str(tmp_path), str(tmp_path / "out"), str(tmp_path / "python"))


@pytest.mark.parametrize(
    ("published", "out", "says"),
    [("s3://bucket/pannuke", "out", "s3://bucket/pannuke"), ("published", "published", "already")],
)
def test_a_place_that_won_t_do_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: str, out: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pannuke(tmp_path / "published", FOLDS)

    with pytest.raises(SettingError, match=says):
        import_pannuke(published, out, sys.executable)


def test_two_folds_are_too_few_for_pathml(tmp_path: Path) -> None:
    published = write_pannuke(tmp_path / "published", {1: FOLDS[1], 3: FOLDS[3]})

    with pytest.raises(DatasetInvalid, match=r"lacks fold2.*https://warwick"):
        import_pannuke(str(published), str(tmp_path / "out"), sys.executable)


def test_the_stage_stands_alone_under_its_own_licence() -> None:
    text = STAGE.read_text()
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }

    assert text.startswith("# SPDX-License-Identifier: MIT")
    assert imported == {"__future__", "sys", "pathlib", "pyarrow", "pathml"}
