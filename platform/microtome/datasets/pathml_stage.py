# SPDX-License-Identifier: MIT
#
# Permission is hereby granted, free of charge, to any person obtaining a copy of this file, to deal
# in it without restriction, including the rights to use, copy, modify, merge, publish, distribute,
# sublicense and sell copies of it, provided that this notice is kept. It is provided "as is",
# without warranty of any kind.
"""PanNuke through PathML: run by the Python of PathML's own environment, never imported here.

    python pathml_stage.py OUT FOLD_1 FOLD_2 FOLD_3

PathML is under GPL-2.0, so this one file that meets it stands under MIT, alone: it imports nothing
of Microtome, and the two programs exchange nothing but OUT/pannuke.arrow, a table of the pictures
that PathML wrote: `file` (relative to OUT), `fold`, `index` and `tissue`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
from pathml.datasets.pannuke import PanNukeDataModule

FOLDS = (1, 2, 3)
COLUMNS = pa.schema(
    [
        ("file", pa.string()),
        ("fold", pa.int32()),
        ("index", pa.int32()),
        ("tissue", pa.string()),
    ]
)


def convert(out: Path, folds: list[Path]) -> None:
    """Let PathML write one picture and one mask per patch; it looks for the folds beside them."""
    links = [out / f"Fold {fold}" for fold in FOLDS]
    for link, folder in zip(links, folds, strict=True):
        link.symlink_to(folder)
    # PathML's public way to this is `download=True`, which deletes the published folds afterwards.
    PanNukeDataModule._process_downloaded_pannuke(out)  # noqa: SLF001
    for link in links:
        link.unlink()


def table(out: Path) -> pa.Table:
    """What PathML's data module serves, fold by fold."""
    rows = []
    for fold in FOLDS:
        module = PanNukeDataModule(str(out), split=fold, shuffle=False)
        for stem in module.train_dataloader.dataset.paths:
            _, index, tissue = stem.split("_")
            rows.append(
                {
                    "file": f"images/{stem}.png",
                    "fold": fold,
                    "index": int(index),
                    "tissue": tissue,
                }
            )
    return pa.Table.from_pylist(rows, COLUMNS).sort_by(
        [("fold", "ascending"), ("index", "ascending")]
    )


def main() -> None:
    """Convert, then say what there is."""
    out, *folds = (Path(word) for word in sys.argv[1:])
    convert(out, folds)
    with pa.OSFile(str(out / "pannuke.arrow"), "wb") as sink:
        found = table(out)
        with pa.ipc.new_file(sink, found.schema) as writer:
            writer.write_table(found)


if __name__ == "__main__":
    main()
