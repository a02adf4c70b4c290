"""`microtome`: the command line on top of everything.

The commands that read an atlas stand here; the apps bring theirs through the entry-point group
`microtome.commands`. Heavy imports wait until a command runs, so `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from microtome import __version__, cli_data, cli_models
from microtome.console import (
    AtlasOption,
    ConfigOption,
    JsonOption,
    err,
    out,
    print_json,
    print_table,
    reporting,
    run,
)

if TYPE_CHECKING:
    from microtome.search.result import SearchResult

app = typer.Typer(
    name="microtome",
    help="Find tissue that looks alike in archives of whole-slide images.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

app.add_typer(cli_models.app)
app.add_typer(cli_data.app)

SEARCH_EPILOG = """
Examples:

  microtome search crop.png --atlas atlas

  microtome search 3f0c… --atlas atlas -k 20 --exclude case --gallery hits.html

  microtome search 'slides/a.svs#10240,8192,448,448' --atlas atlas --where "site = 'north'"
"""


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


@app.command(epilog=SEARCH_EPILOG)
def search(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    query: Annotated[
        str,
        typer.Argument(
            help="An image file, a tile id, or a region `SLIDE#x,y,w,h` in level-0 px.",
            metavar="QUERY",
        ),
    ],
    atlas: AtlasOption,
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model to embed the query with.",
            metavar="NAME|FOLDER",
            show_default="the atlas's own",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Condition on any column, e.g. \"site = 'north' AND tissue > 0.8\"."),
    ] = None,
    exclude: Annotated[
        Literal["none", "slide", "case"],
        typer.Option(help="Leave out the query's own slide or case."),
    ] = "none",
    query_mpp: Annotated[
        float | None,
        typer.Option(help="µm per pixel of a query image.", show_default="the atlas's"),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every vector, past any index.")
    ] = False,
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Search the atlas as it once was.", metavar="RUN|VERSION|TIME", show_default="now"
        ),
    ] = None,
    allow_licence: Annotated[
        list[str] | None,
        typer.Option(
            help="Allow weights under this non-permissive licence; may be repeated. What was "
            "allowed for indexing is allowed."
        ),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(help="Write query and hits as pictures: FILE.png or FILE.html."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Find the tiles that look most like the query."""
    with reporting(as_json):
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.reading import allowed_licences, model_source
        from microtome.models.registry import EncoderOptions, load_card, load_encoder
        from microtome.search.gallery import check_gallery_path, write_gallery
        from microtome.search.query import parse_query
        from microtome.search.result import SearchSettings
        from microtome.search.searcher import Searcher

        if gallery is not None:
            check_gallery_path(gallery)
        opened = Atlas.open(atlas) if as_of is None else Atlas.open(atlas).at(as_of)

        def options() -> EncoderOptions:
            licences = (*allowed_licences(opened), *(allow_licence or ()))
            return EncoderOptions(allow_licences=licences)

        settings = SearchSettings(
            k=k,
            where=where,
            exclude=exclude,
            model_id=load_card(model, options()).model_id if model else None,
            query_mpp=query_mpp,
            exact=exact,
        )
        searcher = Searcher(opened, lambda: load_encoder(model or model_source(opened), options()))
        result = searcher.search(parse_query(query), settings)
        if gallery is not None:
            write_gallery(gallery, result, opened)
        if as_json:
            print_json(result.to_json())
        else:
            print_hits(result)
            if gallery is not None:
                err.print(f"wrote {gallery}", style="dim", markup=False)


def print_hits(result: SearchResult) -> None:
    """Print hits as a table, then what the reader should know of them."""
    rows: list[dict[str, Any]] = [
        {"rank": rank, **hit.to_json()} for rank, hit in enumerate(result.hits, start=1)
    ]
    columns = ["rank", "score", "slide_id", "x", "y", "size_px", "tile_id"]
    if any(hit.case_id for hit in result.hits):
        columns.insert(3, "case_id")
    print_table(f"{len(rows)} tiles most like {result.query.text}", rows, columns)
    how = "through the index" if result.path == "index" else "exactly"
    err.print(
        f"compared {how} by {result.model_name} ({result.model_id}), whose vectors "
        f"{result.coverage:.1%} of the tiles have, at version {result.tiles_version}",
        style="dim",
        markup=False,
        highlight=False,
    )
    for note in result.notes:
        err.print(note, style="yellow", markup=False)


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
