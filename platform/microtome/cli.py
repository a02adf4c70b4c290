"""`microtome`: the command line on top of everything.

The commands that read an atlas stand here; the apps bring theirs through the entry-point group
`microtome.commands`. Heavy imports wait until a command runs, so `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from microtome import __version__, cli_data, cli_models, cli_search
from microtome.console import (
    AtlasOption,
    ConfigOption,
    JsonOption,
    out,
    print_json,
    print_table,
    reporting,
    run,
)

app = typer.Typer(
    name="microtome",
    help="Find tissue that looks alike in archives of whole-slide images.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

app.add_typer(cli_search.app)
app.add_typer(cli_models.app)
app.add_typer(cli_data.app)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"microtome {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Find tissue that looks alike in archives of whole-slide images."""


@app.command()
def slides(
    atlas: AtlasOption,
    status: Annotated[
        str | None, typer.Option(help="Only those that are `done`, `empty` or `failed`.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List every slide the atlas was asked to hold, and what became of it."""
    with reporting(as_json):
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.reading import list_slides

        rows = list_slides(Atlas.open(atlas), status=status)
        if as_json:
            print_json({"slides": rows})
        else:
            print_slides(rows)


def print_slides(rows: list[dict[str, Any]]) -> None:
    """Print slides as a table, then why each failed one failed."""
    shown = ["slide_id", "status", "tiles", "mpp", "objective", "tissue_mm2", "reader"]
    print_table(f"{len(rows)} slides", rows, shown)
    for row in rows:
        if row["cause"]:
            out.print(f"\n[bold]{escape(row['slide_id'])}[/] [red]{row['cause']}[/]")
            out.print(f"  {row['message']}", markup=False, highlight=False)


@app.command()
def info(atlas: AtlasOption, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Say what an atlas holds: grid, models, counts, columns and runs."""
    with reporting(as_json):
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.reading import describe

        facts = describe(Atlas.open(atlas))
        if as_json:
            print_json(facts)
        else:
            print_info(facts)


def print_info(facts: Mapping[str, Any]) -> None:
    """Print what an atlas holds on one screen."""
    grid, slides = facts["grid"], facts["slides"]
    size = f", {facts['bytes'] / 1e6:,.1f} MB" if facts["bytes"] is not None else ""
    lines = {
        "atlas": f"{facts['uri']} (format {facts['format_version']}{size})",
        "grid": f"{grid['tile_px']} px at {grid['mpp']:g} µm per px, every {grid['stride_px']} px",
        "tiles": f"{facts['tiles']:,}",
        "slides": ", ".join(f"{count:,} {status}" for status, count in slides.items()),
        "columns": ", ".join(f"{name} ({kind})" for name, kind in facts["columns"].items()) or "–",
    }
    models = [
        (
            "model",
            f"{model['name']} ({model['model_id']}), {model['dim']} values, {model['licence']}, "
            f"{model['coverage']:.0%} of the tiles\n{model['notes']}",
        )
        for model in facts["models"]
    ]
    grid_of_facts = Table.grid(padding=(0, 2))
    for name, value in [*lines.items(), *models]:
        grid_of_facts.add_row(f"[bold]{name}[/]", escape(value))
    out.print(grid_of_facts, highlight=False)
    out.print()
    shown = ["run_id", "command", "status", "slides_done", "slides_failed", "tiles", "tiles_per_s"]
    print_table("runs, newest first", facts["runs"], shown)


def load_apps() -> None:
    """Add the commands of the installed apps."""
    for entry in sorted(entry_points(group="microtome.commands")):
        app.add_typer(entry.load())


def main() -> None:
    """Run the command line."""
    load_apps()
    run(app)
