"""`microtome annotate`: a manifest's corrections, for slides that are in the atlas already."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from microtome.console import (
    AtlasOption,
    ConfigOption,
    JsonOption,
    err,
    print_json,
    print_table,
    reporting,
)

if TYPE_CHECKING:
    from microtome.atlas.annotate import Annotated as Annotation

app = typer.Typer(no_args_is_help=True)
SHOWN_ROWS = 5

EPILOG = """
Examples:

  microtome annotate corrected.csv --atlas atlas

  microtome annotate s3://bucket/slides.parquet --atlas s3://bucket/atlas --json

Exit code: 0 done, also where the manifest names slides that the atlas hasn't; 1 a column is of
another type, no slide is named, or the store refused: run it again.
"""


@app.command(epilog=EPILOG)
def annotate(
    manifest: Annotated[
        str,
        typer.Argument(
            help="CSV or Parquet with `uri` or `slide_id`, then `case_id` and any columns.",
            metavar="MANIFEST",
        ),
    ],
    atlas: AtlasOption,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Correct or add the columns that people filter by, for the slides that a manifest names.

    An empty cell takes a value away; columns and slides that the manifest hasn't stay as they are.
    """
    with reporting(as_json):
        from microtome.atlas.annotate import annotate as run_annotate
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.writer import open_writer
        from microtome.slides.manifest import read_manifest

        corrections = read_manifest(manifest)
        Atlas.open(atlas)  # before the lease is taken
        with open_writer(atlas, "annotate") as writer:
            done = run_annotate(writer, corrections)
        if as_json:
            print_json(asdict(done))
        else:
            print_annotation(done)


def print_annotation(done: Annotation) -> None:
    """Say which columns changed, in how many rows, and what was not found."""
    columns = sorted({*done.slides, *done.tiles, *done.added})
    rows = [
        {
            "column": name,
            "slides": done.slides.get(name, 0),
            "tiles": done.tiles.get(name, 0),
            "": "new" if name in done.added else "",
        }
        for name in columns
    ]
    if rows:
        print_table("rows changed", rows, ["column", "slides", "tiles", ""])
    else:
        err.print(f"{done.named:,} slides are as the manifest says already")
    if done.unknown:
        more = len(done.unknown) - SHOWN_ROWS
        err.print(
            f"{len(done.unknown):,} rows name no slide of the atlas: "
            + "; ".join(done.unknown[:SHOWN_ROWS])
            + (f" and {more:,} more" if more > 0 else ""),
            style="yellow",
            markup=False,
            highlight=False,
        )
