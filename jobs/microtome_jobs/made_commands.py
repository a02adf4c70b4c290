"""`microtome made-patches`: labelled tissue made by arithmetic, to fit a model without patients."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from microtome.console import JsonOption, err, print_json, reporting
from microtome.errors import SettingError

app = typer.Typer(no_args_is_help=True)

EPILOG = """
Examples:

  microtome made-patches patches

  microtome made-patches patches --kinds 40 --per-kind 8 --seed 1

  microtome train tissue --data folder:patches --out model
"""


@app.command(epilog=EPILOG)
def made_patches(
    folder: Annotated[Path, typer.Argument(help="Where they go.", metavar="FOLDER")],
    kinds: Annotated[int, typer.Option(help="Random kinds of tissue, the classes.")] = 320,
    per_kind: Annotated[int, typer.Option(help="Patches of each, four to a field.")] = 16,
    side_px: Annotated[int, typer.Option(help="Side of a patch, at 0.5 µm per pixel.")] = 192,
    seed: Annotated[int, typer.Option(help="Everything follows from it.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make patches of random kinds of tissue, with labels, groups and splits.

    No patient is in them. `microtome train --data folder:FOLDER` reads the result; the model that
    ships was fitted so.
    """
    with reporting(as_json):
        from microtome_jobs.made.patches import PatchSpec, make_patches

        spec = PatchSpec(kinds, per_kind, side_px, seed)
        try:
            with _bar() as bar:
                task = bar.add_task("fields", total=len(spec.fields))
                manifest = make_patches(folder, spec, lambda: bar.advance(task))
        except OSError as error:
            raise SettingError(
                f"nothing can be written to the folder {folder}: {error.strerror or error}",
                remedy="Name another.",
            ) from None
        patches = kinds * per_kind
        if as_json:
            print_json(
                {"folder": str(folder), "manifest": str(manifest), "patches": patches}
                | asdict(spec)
            )
        else:
            err.print(f"{patches:,} patches of {kinds:,} kinds in {folder}", markup=False)


def _bar() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, TimeRemainingColumn(), console=err)
