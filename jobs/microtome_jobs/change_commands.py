"""`microtome forget`, `rollback` and `versions`: what becomes of what an atlas once held."""

from __future__ import annotations

import sys
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
    from microtome.atlas.rollback import Plan

app = typer.Typer(no_args_is_help=True)

YesOption = Annotated[bool, typer.Option("--yes", help="Go ahead without asking.")]

FORGET_EPILOG = """
Examples:

  microtome forget --slide 2024/a.svs --atlas atlas

  microtome forget --case P-0815 --atlas s3://bucket/atlas --yes --json

  microtome maintain --atlas atlas        # removes the bytes

Exit code: 0 it is forgotten; 2 the atlas holds no such slide or case, or --yes is missing;
1 it could not be done, or not wholly: run it again, whoever writes next finishes it.
"""

ROLLBACK_EPILOG = """
Examples:

  microtome versions --atlas atlas

  microtome rollback 20261122T040233364201-d991 --atlas atlas --yes

Exit code: 0 done; 2 later runs would be undone too and --yes is missing; 1 there is no such run,
the state before it is no longer kept, or the store refused: run it again.
"""

VERSIONS_EPILOG = """
Examples:

  microtome versions --atlas atlas

  microtome search crop.png --atlas atlas --as-of 20261122T040233364201-d991
"""


@app.command(epilog=FORGET_EPILOG)
def forget(
    atlas: AtlasOption,
    slide: Annotated[
        str | None, typer.Option("--slide", help="Id of the slide to forget.", metavar="ID")
    ] = None,
    case: Annotated[
        str | None,
        typer.Option("--case", help="Id of the case to forget, with all its slides.", metavar="ID"),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove a slide, or all slides of a case, from every table, for good.

    They are gone from searches at once, and from versions, indices and files after the next
    `microtome maintain`. A keyed hash keeps them out: they can't be rolled back or indexed again.
    """
    with reporting(as_json):
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.forgetting import Subject, find
        from microtome.atlas.forgetting import forget as forget_now
        from microtome.atlas.recovery import recover
        from microtome.atlas.writer import open_writer

        subject = Subject(slide, case)
        opened = Atlas.open(atlas)
        found = find(atlas, subject)
        if not found.already:
            _confirm(
                f"forget the {subject}: {len(found.slide_ids)} slides, {found.tiles:,} tiles",
                yes=yes,
                as_json=as_json,
            )
        with open_writer(atlas, "forget") as writer:
            recover(writer, opened)
            forget_now(writer, subject)
        if as_json:
            slides = len(found.slide_ids)
            print_json({"slides": slides, "tiles": found.tiles, "already": found.already})
        elif found.already:
            err.print("it was forgotten before")
        else:
            err.print(
                f"[bold]forgotten[/]: {len(found.slide_ids):,} slides, {found.tiles:,} tiles; "
                "`microtome maintain` removes the last bytes"
            )


@app.command(epilog=ROLLBACK_EPILOG)
def rollback(
    run: Annotated[
        str, typer.Argument(help="Id of the run to undo, or its beginning.", metavar="RUN")
    ],
    atlas: AtlasOption,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Return the atlas to what it was before a run; later runs are undone with it.

    What was forgotten stays forgotten. `microtome maintain` then builds the indices again. A
    rollback is a run itself, and can be rolled back.
    """
    with reporting(as_json):
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.recovery import recover
        from microtome.atlas.rollback import plan_rollback, roll_back
        from microtome.atlas.writer import open_writer

        opened = Atlas.open(atlas)
        plan = plan_rollback(atlas, run)
        if plan.later:
            _confirm(
                f"undo {plan.run_id} and with it {len(plan.later)} later runs: "
                f"{', '.join(plan.later)}",
                yes=yes,
                as_json=as_json,
            )
        with open_writer(atlas, "rollback") as writer:
            recover(writer, opened)
            plan = roll_back(writer, plan.run_id)
        _report_rollback(plan, opened.slides.count_rows(), opened.tiles.count_rows(), as_json)


def _report_rollback(plan: Plan, slides: int, tiles: int, as_json: bool) -> None:
    if as_json:
        undone = [row["run_id"] for row in plan.undone]
        print_json({"undone": undone, "slides": slides, "tiles": tiles})
        return
    for row in plan.undone:
        err.print(f"undone: {row['run_id']} {row['command']}", markup=False)
    err.print(f"[bold]the atlas holds {slides:,} slides, {tiles:,} tiles[/] as before them")


@app.command(epilog=VERSIONS_EPILOG)
def versions(atlas: AtlasOption, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the states that the atlas keeps, one after each run, for --as-of and `rollback`."""
    with reporting(as_json):
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.versions import list_versions

        rows = list_versions(Atlas.open(atlas).uri)
        if as_json:
            print_json({"versions": rows})
        else:
            columns = ["run_id", "command", "status", "tagged_at", "slides", "tiles", "version"]
            print_table(f"{len(rows)} states, newest first", rows, columns)
            if not all(row["opens"] for row in rows):
                err.print("some hold what was forgotten since and can't be opened", style="yellow")


def _confirm(what: str, *, yes: bool, as_json: bool) -> None:
    """Ask before something that can't be undone, or that undoes much."""
    from microtome.errors import NotConfirmed

    if yes:
        return
    if as_json or not sys.stdin.isatty() or not typer.confirm(f"{what}?", err=True):
        raise NotConfirmed(f"this would {what}", remedy="Pass --yes to do it.")
