# SPDX-License-Identifier: MIT
#
# Copyright (c) 2026 the Microtome authors
#
# Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
# associated documentation files (the "Software"), to deal in the Software without restriction,
# including without limitation the rights to use, copy, modify, merge, publish, distribute,
# sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
# furnished to do so, subject to the following conditions:
#
# The above copyright notice and this permission notice shall be included in all copies or
# substantial portions of the Software.
#
# THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
# NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
# NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
# DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
# OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
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
    PanNukeDataModule._process_downloaded_pannuke(out)
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
