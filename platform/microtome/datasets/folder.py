"""Any folder of images with a subfolder for each class, or with a manifest that says more."""

from __future__ import annotations

from microtome.datasets.samples import LabelledSet


def read_folder(path: str) -> LabelledSet:
    """Read a folder-per-class tree.

    Args:
        path: folder or URI that holds one folder per class, or `train`, `val` and `test` folders of
            such folders; or a `manifest.csv` of `path`, `label` and optionally `group` and `split`.

    Raises:
        DatasetNotFound: nothing lies there.
        DatasetInvalid: no classes, or a manifest that lacks a column or names images that are
            not there.
    """
    raise NotImplementedError(path)
