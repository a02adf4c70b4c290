"""ImageNet-1k (ILSVRC 2012) from its official archives, as they come.

The training archive is a tar of one tar per class; the validation archive is a tar of images whose
classes stand in the development kit, as numbers that its `meta.mat` translates into WordNet ids.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
import zlib
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microtome.datasets.archives import archive_members
from microtome.datasets.listing import files_under
from microtome.datasets.samples import LabelledSet, samples_of
from microtome.errors import DatasetError, DatasetInvalid
from microtome.slides.storage import explained, filesystem_of

HOME: Final = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
TRAIN: Final = "ILSVRC2012_img_train.tar"
VAL: Final = "ILSVRC2012_img_val.tar"
KIT: Final = "ILSVRC2012_devkit_t12.tar.gz"
IMAGES: Final = {"train": 1_281_167, "val": 50_000}
_REMEDY = f"Get {TRAIN}, {VAL} and {KIT} from {HOME} and leave them packed"
_BROKEN = (tarfile.TarError, zlib.error, EOFError, OSError, LookupError, TypeError, ValueError)


class Kit(NamedTuple):
    """What the development kit says of the validation images."""

    wordnet_ids: tuple[str, ...]
    """Of class 1, 2, … in the kit's own numbering."""
    truth: tuple[int, ...]
    """Class number of validation image 1, 2, …"""


class Archive(NamedTuple):
    """One archive, and the WordNet id of each image in it."""

    split: str
    uri: str
    members: pa.Table
    ids: pa.Array


def read_imagenet(path: str) -> LabelledSet:
    """Read ImageNet-1k: split `train`, and `val` with its labels from the development kit.

    Args:
        path: folder or URI that holds the training archive, or the validation archive with the
            development kit, or all three.

    Returns:
        The set; classes are WordNet ids, sorted, which is the order of all published weights.

    Raises:
        DatasetNotFound: nothing lies there.
        DatasetInvalid: neither archive, no development kit beside the validation archive, or an
            archive that is damaged.
    """
    files = {posixpath.basename(name): uri for name, uri in files_under(path).items()}
    if VAL in files and KIT not in files:
        raise DatasetInvalid(f"{KIT} is missing beside {VAL} at {path}", remedy=_REMEDY)
    kit = _read_kit(files[KIT], posixpath.join(path, KIT)) if KIT in files else Kit((), ())
    archives = []
    for split, name in (("train", TRAIN), ("val", VAL)):
        if name in files:
            members = archive_members(files[name], posixpath.join(path, name))
            ids = _train_ids(members) if split == "train" else _val_ids(members, kit)
            archives.append(Archive(split, files[name], members, ids))
    if not archives:
        raise DatasetInvalid(f"neither {TRAIN} nor {VAL} lies at {path}", remedy=_REMEDY)
    named = [pc.unique(archive.ids).to_pylist() for archive in archives]
    classes = sorted(set(kit.wordnet_ids).union(*named))
    return LabelledSet(
        "ImageNet-1k",
        tuple(classes),
        pa.concat_tables([_samples(archive, classes) for archive in archives]),
        home=HOME,
        notes=_missing({archive.split: len(archive.members) for archive in archives}),
    )


def _samples(archive: Archive, classes: list[str]) -> pa.Table:
    rows = len(archive.members)
    labels = pc.index_in(archive.ids, pa.array(classes))
    return samples_of(
        {
            "uri": pa.repeat(pa.scalar(archive.uri), rows),
            "offset": archive.members["offset"],
            "size": archive.members["size"],
            "label": labels,
            "split": pa.repeat(pa.scalar(archive.split), rows),
        }
    )


def _train_ids(members: pa.Table) -> pa.Array:
    """WordNet id of each training image: the name of the class archive it lies in."""
    names = members["name"].combine_chunks()
    ids = pc.struct_field(pc.extract_regex(names, r"^(?P<id>n\d{8})\.tar/"), "id")
    _check_names(names, ids, TRAIN)
    return ids


def _val_ids(members: pa.Table, kit: Kit) -> pa.Array:
    """WordNet id of each validation image: its number, looked up in the kit."""
    names = members["name"].combine_chunks()
    numbers = pc.struct_field(pc.extract_regex(names, r"_val_(?P<number>\d{8})\.JPEG$"), "number")
    _check_names(names, numbers, VAL)
    places = pc.subtract(numbers.cast(pa.int64()), 1)
    if len(names) and pc.max(places).as_py() >= len(kit.truth):
        raise DatasetInvalid(
            f"{VAL} holds image {pc.max(places).as_py() + 1}, but {KIT} knows {len(kit.truth)}",
            remedy=_REMEDY,
        )
    of_class = pa.array(kit.wordnet_ids).take(pa.array(np.asarray(kit.truth) - 1))
    return of_class.take(places)


def _check_names(names: pa.Array, parsed: pa.Array, archive: str) -> None:
    if not len(names):
        raise DatasetInvalid(f"{archive} holds no images", remedy=_REMEDY)
    if parsed.null_count:
        odd = names.filter(pc.is_null(parsed))[0].as_py()
        raise DatasetInvalid(f"{archive} holds {odd}, which is no image of it", remedy=_REMEDY)


def _read_kit(uri: str, shown: str) -> Kit:
    """Read class numbers and their WordNet ids from the development kit.

    Raises:
        DatasetInvalid: it is damaged, or no development kit.
    """
    with explained(shown, refused=DatasetError):
        filesystem, path = filesystem_of(uri)
        data = filesystem.cat_file(path)
    try:
        unpacked = gzip.decompress(data)  # as a whole: only its end tells whether it is damaged
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as kit:
            truth = _member(kit, "ILSVRC2012_validation_ground_truth.txt").split()
            ids = _wordnet_ids(_member(kit, "meta.mat"))
            return Kit(ids, _checked([int(number) for number in truth], len(ids)))
    except _BROKEN as error:
        raise DatasetInvalid(f"{shown} can't be read: {error}", remedy=_REMEDY) from None


def _member(kit: tarfile.TarFile, name: str) -> bytes:
    file = kit.extractfile(f"ILSVRC2012_devkit_t12/data/{name}")
    if file is None:
        raise ValueError(f"{name} is no file")
    return file.read()


def _wordnet_ids(meta: bytes) -> tuple[str, ...]:
    """WordNet ids of the classes that images have, those without children, by their number.

    Raises:
        ValueError, KeyError, IndexError: it isn't what the development kit holds.
    """
    from scipy.io import loadmat  # takes a while

    try:
        nodes = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    except Exception as error:  # noqa: BLE001 - a broken file makes scipy trip over anything
        raise ValueError(f"meta.mat is damaged, or of another version ({error})") from None
    leaves = nodes[nodes["num_children"].astype(int) == 0]
    by_number = dict(zip(leaves["ILSVRC2012_ID"].astype(int), leaves["WNID"], strict=True))
    return tuple(str(by_number[number]) for number in range(1, len(by_number) + 1))


def _checked(truth: list[int], classes: int) -> tuple[int, ...]:
    if not truth or min(truth) < 1 or max(truth) > classes:
        raise ValueError(f"it has {classes} classes, and labels beyond them")
    return tuple(truth)


def _missing(counted: dict[str, int]) -> tuple[str, ...]:
    return tuple(
        f"{split} holds {counted.get(split, 0):,} of {images:,} images: get the rest from {HOME}"
        for split, images in IMAGES.items()
        if counted.get(split, 0) != images
    )
