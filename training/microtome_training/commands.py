"""`microtome train`. Heavy imports wait until the command runs."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from microtome.console import JsonOption, err, print_json, print_table, reporting

if TYPE_CHECKING:
    from microtome_training.run import FitSummary

app = typer.Typer(no_args_is_help=True)

EPILOG = """
Examples:

  microtome train --list

  microtome train folder-lgffem --data folder:patches/ --out model

  microtome train recipe.yaml --set fit.epochs=40 --set optimiser.lr=3e-4 --out s3://bucket/model

  microtome index slides/ --atlas atlas --model model

Run it again with --resume to go on after whatever ended it.
"""


@app.command(epilog=EPILOG)
def train(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            help="A shipped recipe's name, a YAML file, or the three settings files (backbone, "
            "neck, head) of the LGFFEM reference.",
            metavar="RECIPE",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Labelled images, e.g. folder:PATH; else the recipe's.", metavar="SPEC"),
    ] = None,
    out: Annotated[
        str, typer.Option(help="Folder or s3:// URI for the model and its run.", metavar="FOLDER")
    ] = "model",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a value of the recipe, e.g. fit.epochs=40."),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that train.", show_default="one per GPU or four cores")
    ] = 0,
    max_workers: Annotated[
        int,
        typer.Option(
            help="Elastic: let the workers grow to this many as nodes come. fit.batch_size must be "
            "a multiple of every number from --workers to this, e.g. 60 of 2 to 6."
        ),
    ] = 0,
    cpus_per_worker: Annotated[
        int, typer.Option(help="Cores of each.", show_default="an equal share")
    ] = 0,
    max_failures: Annotated[
        int, typer.Option(help="Lost workers that the run survives; -1 for any number.")
    ] = 3,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped recipes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit an embedding model to labelled tissue.

    Runs on a local Ray that it starts itself, on the cluster that RAY_ADDRESS names, or inside
    `ray job submit -- python -m microtome_training train …`. --out becomes a model folder.
    """
    with reporting(as_json):
        if list_:
            list_recipes(as_json=as_json)
            return
        from microtome_training.reading import load_recipe

        chosen = [*(set_ or ()), *([f"data.dataset={data}"] if data else [])]
        loaded = load_recipe(recipe or [], chosen)
        from microtome_training.projecting import run_projection
        from microtome_training.run import RunSettings, run_training

        fit = run_projection if loaded.model.kind == "projection" else run_training
        settings = RunSettings(out, workers, max_workers, cpus_per_worker, max_failures, resume)
        with redirect_stdout(sys.stderr):  # Ray prints remarks; stdout is for the result
            summary = fit(loaded, settings)
        if as_json:
            print_json(summary.to_json())
        else:
            print_summary(summary)


def list_recipes(*, as_json: bool) -> None:
    """Print the shipped recipes and what each is for."""
    from microtome_training.reading import load_recipe, shipped_recipes

    rows = []
    for name in shipped_recipes():
        recipe = load_recipe([name])
        rows.append({"recipe": name, "model": recipe.model.kind, "notes": recipe.notes})
    if as_json:
        print_json({"recipes": rows})
    else:
        print_table(f"{len(rows)} recipes", rows, ["recipe", "model", "notes"])


def print_summary(summary: FitSummary) -> None:
    """Say in a few lines what was made."""
    card = summary.card
    for note in summary.notes:
        err.print(note, style="yellow", markup=False)
    found = ", ".join(f"{name} {value:.4g}" for name, value in card.metrics.items())
    err.print(f"[bold]{card.name}[/] ({card.model_id}), {card.dim} values; held out: {found}")
    err.print(
        f"microtome index SOURCE --atlas URI --model {summary.out}", style="dim", markup=False
    )
