"""Small copies of published sets, laid out as their authors publish them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from microtome.datasets.samples import LabelledSet, samples_of

SYNSETS = ("n02000003", "n02000001", "n02000002")
"""WordNet ids of the made ImageNet's classes 1, 2 and 3, in the kit's own numbering."""


def picture(seed: int, side: int = 16) -> NDArray[np.uint8]:
    """Random RGB pixels, (side, side, 3): no two seeds alike, and no channel like another."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """An image file of those pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_pictures(folder: Path, names: Iterable[str]) -> Path:
    """An image at each path, its pixels from its number; the name says the format."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed)).save(path)
    return folder


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def write_imagenet(folder: Path, *, train: int = 2, val: Iterable[int] = (3, 1, 1, 2)) -> Path:
    """ImageNet's two archives and its kit: `train` images a class, `val` images of those classes.

    Image i of a class in the training archive, and image i of the validation archive, hold
    `picture(i)`, from 1.
    """
    jpegs = [encoded(picture(number), "PNG") for number in range(100)]
    classes = {
        f"{name}.tar": tar_of({f"{name}_{i}.JPEG": jpegs[i] for i in range(1, train + 1)})
        for name in sorted(SYNSETS)
    }
    truth = list(val)
    images = {f"ILSVRC2012_val_{i:08}.JPEG": jpegs[i] for i in range(1, len(truth) + 1)}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_of(classes))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_of(images))
    write_kit(folder / "ILSVRC2012_devkit_t12.tar.gz", truth)
    return folder


def made_meta() -> bytes:
    """The `meta.mat` of a development kit: the classes' names."""
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    nodes = [(number, name, "bird", 0) for number, name in enumerate(SYNSETS, start=1)]
    nodes.append((4, "n00000000", "animal", 3))
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(nodes, dtype=kinds)[:, None]})
    return meta.getvalue()


def write_kit(path: Path, truth: Iterable[int], meta: bytes | None = None) -> None:
    """The development kit: class numbers of the validation images, and the classes' names."""
    files = {
        "meta.mat": made_meta() if meta is None else meta,
        "ILSVRC2012_validation_ground_truth.txt": "".join(f"{one}\n" for one in truth).encode(),
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_pannuke(folder: Path, tissues: Mapping[int, tuple[str, ...]]) -> Path:
    """PanNuke's folds, `tissues` by fold; patch i of fold f holds `picture(100 * f + i, 256)`."""
    for fold, names in tissues.items():
        images, masks = (
            folder / f"Fold {fold}" / one / f"fold{fold}" for one in ("images", "masks")
        )
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        pixels = [picture(100 * fold + number, 256) for number in range(len(names))]
        np.save(images / "images.npy", np.stack(pixels).astype(np.float64))
        np.save(images / "types.npy", np.array(names))
        np.save(masks / "masks.npy", np.zeros((len(names), 256, 256, 6)))
    return folder


def write_kimia24(path: Path) -> Path:
    """Kimia Path24's file: 24 scans of 1 × 2 squares, the right one white in odd scans."""
    with h5py.File(path, "w") as file:
        for scan in range(24):
            pixels = np.full((1_000, 2_100), scan, np.uint8)
            pixels[:, 1_000:] = 255 if scan % 2 else 200
            file.create_dataset(f"scan{scan}/data", data=pixels, compression="lzf")
        patches = np.stack([np.full((1_000, 1_000), value, np.uint8) for value in (7, 9)])
        file.create_dataset("test_data/patches", data=patches, compression="lzf")
        file["test_data/targets"] = np.array([[7], [9]])
    return path


def made_set(labels: Iterable[int], groups: Iterable[str | None], classes: int) -> LabelledSet:
    """A set of images that lie nowhere."""
    labels = list(labels)
    columns = {
        "uri": [f"{number}.png" for number in range(len(labels))],
        "label": labels,
        "group": pa.array(groups, pa.string()),
    }
    return LabelledSet("made", tuple(f"class {one}" for one in range(classes)), samples_of(columns))
