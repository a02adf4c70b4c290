"""From `--data` and `--group` to a collection of images."""

from __future__ import annotations

import posixpath

from microtome.atlas.labelled import PREFIX
from microtome.datasets.catalogue import KINDS, load_dataset
from microtome.datasets.folder import MANIFEST
from microtome.datasets.listing import files_under
from microtome.errors import SettingError
from microtome.evaluation.collection import Collection
from microtome.evaluation.grouping import Columns, regrouped
from microtome.evaluation.protocols import Protocol
from microtome.slides.tables import read_table

FOLDER = "folder"


def read_images(protocol: Protocol, data: str, group: str | None = None) -> Collection:
    """Read the labelled images that a protocol is for.

    Args:
        protocol: says of what kind they are, unless `data` does.
        data: folder or URI, or `KIND:PATH`.
        group: column of a folder's manifest, or a pattern in names: see `grouping.regrouped`.

    Raises:
        SettingError: another kind than the protocol's, or no such column.
        DatasetError: see `load_dataset`.
        SplitImpossible: not every image has such a group.
    """
    kind, path = _kind_and_path(protocol, data)
    collection = Collection.of(load_dataset(f"{kind}:{path}"))
    if group is None:
        return collection
    columns = _manifest_columns(path, group) if kind == FOLDER else {}
    return regrouped(collection, group, columns)


def _kind_and_path(protocol: Protocol, data: str) -> tuple[str, str]:
    kind, colon, path = data.partition(":")
    if not (colon and kind in {*KINDS, PREFIX.rstrip(":")}):
        return protocol.kind or FOLDER, data
    if kind not in KINDS or (protocol.kind and kind != protocol.kind):
        raise SettingError(
            f"the protocol {protocol.name} isn't for {data}",
            remedy=f"It is for {protocol.kind or 'a set of images'}; an atlas has the protocol "
            "atlas, and the protocol folder takes any other set.",
        )
    return kind, path


def _manifest_columns(path: str, wanted: str) -> Columns:
    """Columns of a folder's manifest, whose rows are the set's images in their order."""
    if MANIFEST not in files_under(path):
        return {}
    table = read_table(posixpath.join(path, MANIFEST), ("path", "label", wanted))
    return {name: table[name].to_pylist() for name in table.column_names if name != "path"}
