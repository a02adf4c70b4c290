"""PanNuke imported through PathML, which runs in its own environment: `make pathml-env`.

PathML can't share Microtome's environment, nor its licence. Its side is `pathml_stage.py`; this
side starts it, reads the table it leaves, and compares its pictures with the published arrays.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from microtome.datasets.image import read_image
from microtome.datasets.pannuke import FOLDS, HOME, read_pannuke, tissue_number
from microtome.datasets.samples import LabelledSet
from microtome.errors import DatasetError, DatasetInvalid, SettingError
from microtome.slides.storage import is_remote, local_path

PYTHON: Final = ".venv-pathml/bin/python"
"""Where `make pathml-env` puts PathML's Python."""

STAGE: Final = Path(__file__).with_name("pathml_stage.py")


def import_pannuke(published: str, out: str, python: str = PYTHON) -> LabelledSet:
    """Turn PanNuke's published folds into PathML's pictures and masks.

    It takes some 3 MB of disk a patch, for PathML keeps the masks as float64: 25 GB in all.

    Args:
        published: folder of the three published folds, which stay as they are.
        out: folder to make; `pannuke:OUT` reads it afterwards. It appears when all is done.
        python: of PathML's environment.

    Returns:
        The set that lies at `out`.

    Raises:
        SettingError: PathML's Python isn't there, `out` is, or one of them is no local path.
        DatasetNotFound, DatasetInvalid: the folds aren't all there, or what PathML made of them
            isn't the same pictures.
        DatasetError: PathML failed.
    """
    target = _checked_target(published, out)
    interpreter = _checked_python(python)
    native = read_pannuke(published)
    folders = _fold_folders(native, published)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}."))
    try:
        _run([interpreter, "-I", str(STAGE), str(work), *folders])
        _check(native, work, out)
        work.chmod(0o755)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_pannuke(out)


def _checked_target(published: str, out: str) -> Path:
    for path in (published, out):
        if is_remote(path):
            raise SettingError(f"PathML reads and writes local folders, not {path}")
    target = Path(local_path(out))
    if target.exists():
        raise SettingError(f"{out} is there already", remedy="Name a folder that isn't.")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _checked_python(python: str) -> str:
    found = shutil.which(Path(python).expanduser())
    if found is None:
        raise SettingError(
            f"there is no Python of PathML at {python}",
            remedy="Make its environment with `make pathml-env`, or name its Python.",
        )
    return str(Path(found).absolute())


def _fold_folders(native: LabelledSet, published: str) -> list[str]:
    """The three published folders, `…/Fold N`."""
    if missing := FOLDS.keys() - native.splits.keys():
        raise DatasetInvalid(
            f"{published} lacks {', '.join(sorted(missing))}, and PathML wants all three",
            remedy=f"Get them from {HOME}",
        )
    uris = [native.split(fold).samples["uri"][0].as_py() for fold in FOLDS]
    return [str(Path(uri).parents[2]) for uri in uris]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise DatasetError(
            f"PathML failed: {said}", remedy="See that its environment is whole: `make pathml-env`."
        )


def _check(native: LabelledSet, work: Path, out: str) -> None:
    """Compare what PathML wrote with what was published: all labels, a picture of each fold."""
    with pa.memory_map(str(work / "pannuke.arrow")) as file:
        rows = pa.ipc.open_file(file).read_all().to_pylist()
    made = {(f"fold{row['fold']}", row["index"]): row for row in rows}
    published = {(row["split"], row["index"]): row for row in native.samples.to_pylist()}
    same = made.keys() == published.keys() and all(
        tissue_number(made[key]["tissue"]) == row["label"]
        and (key[1] or _alike(work, made[key], row))
        for key, row in published.items()
    )
    if not same:
        raise DatasetInvalid(
            f"what PathML made for {out} isn't what was published",
            remedy="Use `pannuke:PATH` of the published folds: they need no PathML.",
        )


def _alike(work: Path, made: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    picture = read_image({"uri": str(work / made["file"]), "bgr": True})
    return np.array_equal(picture, read_image(published))
