"""`microtome search` and `microtome site-bias`. Heavy imports wait until a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microtome.cli_asking import ALPHA, Level, Method, Wish, ask_atlas
from microtome.console import (
    AtlasOption,
    ConfigOption,
    JsonOption,
    err,
    print_json,
    print_table,
    reporting,
)
from microtome.errors import SettingError

if TYPE_CHECKING:
    from microtome.cli_asking import Result
    from microtome.search.query import Query

app = typer.Typer(no_args_is_help=True)

SEARCHED = {"tile": "tiles", "region": "tiles", "slide": "slides", "case": "slides"}

SEARCH_EPILOG = """
Examples:

  microtome search crop.png --atlas atlas

  microtome search 3f0c… --atlas atlas -k 20 --exclude case --spread case_id=1 --gallery hits.html

  microtome search 'slides/a.svs#10240,8192,448,448' --atlas atlas --where "site = 'north'"

  microtome search 'a.svs#10240,8192,2048,2048' --atlas atlas --level region --geojson found.geojson

  microtome search slide:a.svs --atlas atlas --method mosaic --exclude group:site

  microtome search case:P-0815 --server https://microtome.example.org --json

By image, tile or rectangle tiles are found, by a drawn polygon (SLIDE#FILE.geojson) regions, by
slide slides and by case cases, unless --level says otherwise.
"""

BIAS_EPILOG = """
Examples:

  microtome site-bias --atlas atlas

  microtome site-bias --atlas atlas --column site --column scanner --tiles 1000 --json

0: the ranking doesn't know the site; 1: it finds nothing but the tile's own site. Sites that see
other diseases than the rest are rightly found again, so a high figure is no proof of a fault.
"""


@app.command(epilog=SEARCH_EPILOG)
def search(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    query: Annotated[
        str,
        typer.Argument(
            help="An image file, a tile id, a region `SLIDE#x,y,w,h` in level-0 px or "
            "`SLIDE#FILE.geojson`, `slide:ID` or `case:ID`.",
            metavar="QUERY",
        ),
    ],
    atlas: Annotated[
        str | None, typer.Option(help="Folder or s3:// URI of the atlas.", metavar="URI")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="Ask a server in an atlas's stead; a token is taken from MICROTOME_TOKEN. "
            "It judges matches where it searches the whole atlas, without --where.",
            metavar="URL",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 10,
    level: Annotated[
        Level | None, typer.Option(help="What to find.", show_default="as the query")
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(help="How slides and cases are compared.", show_default="as the query"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model to embed the query with; one of the atlas's also by its id.",
            metavar="NAME|FOLDER|ID",
            show_default="the atlas's own",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Condition on any column, e.g. \"site = 'north' AND tissue > 0.8\"."),
    ] = None,
    exclude: Annotated[
        str,
        typer.Option(
            help="Leave out the query's own slide, case, or what has the same in a column.",
            metavar="none|slide|case|group:COLUMN",
        ),
    ] = "none",
    spread: Annotated[
        str | None,
        typer.Option(
            help="At most N hits of one slide_id, case_id or other column; slides over case_id or "
            "another, cases over another.",
            metavar="COLUMN=N",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            help="Least score of a hit, -1 to 1; not of slides and cases compared by votes."
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Say where no tile found is a good match; of queries that have one, at most this "
            "share is told so. 0 leaves it out.",
            show_default=str(ALPHA),
        ),
    ] = None,
    site_column: Annotated[
        list[str] | None,
        typer.Option(
            help="Say how much of the ranking this column explains; may be repeated.",
            show_default="columns called site, scanner and the like; of a server only by region",
        ),
    ] = None,
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
    geojson: Annotated[
        Path | None, typer.Option(help="Write found regions as QuPath opens them: FILE.geojson.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Find the tiles, regions, slides or cases that look most like the query."""
    with reporting(as_json):
        from microtome.search.query import parse_query

        wish = Wish(
            level=level,
            k=k,
            method=method,
            model=model,
            where=where,
            exclude=exclude,
            spread=spread,
            min_score=min_score,
            alpha=alpha,
            site_column=site_column,
            query_mpp=query_mpp,
            exact=exact,
            as_of=as_of,
            allow_licence=allow_licence,
            gallery=gallery,
            geojson=geojson,
        )
        result = _asked(atlas, server, parse_query(query), wish)
        if as_json:
            print_json(result.to_json())
        else:
            print_result(query, result)
            for file in filter(None, (gallery, geojson)):
                err.print(f"wrote {file}", style="dim", markup=False)


def _asked(atlas: str | None, server: str | None, query: Query, wish: Wish) -> Result:
    if server is not None and atlas is None:
        from microtome.cli_server import ask_server

        return ask_server(server, query, wish)
    if atlas is not None and server is None:
        return ask_atlas(atlas, query, wish)
    problem = "neither an atlas nor a server is named" if server is None else "both are named"
    raise SettingError(problem, remedy="Name an atlas by --atlas, or a server by --server.")


def print_result(query: str, result: Result) -> None:
    """Print hits as a table, then what the reader should know of them."""
    told, rows = result.to_json(), result.rows()
    level = told["level"]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print_table(f"{len(rows)} {level}s most like {query}", rows, columns)
    how = {"index": " through the index", "exact": " exactly"}.get(told.get("path", ""), "")
    lines = (
        f"compared{how} by {told['model_name']} ({told['model_id']}), whose vectors "
        f"{told['coverage']:.1%} of the {SEARCHED[level]} have, at version {told['tiles_version']}",
        *getattr(result, "remarks", ()),
    )
    for line in lines:
        err.print(line, style="dim", markup=False, highlight=False)
    for note in result.notes:
        err.print(note, style="yellow", markup=False)


@app.command("site-bias", epilog=BIAS_EPILOG)
def site_bias(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    atlas: AtlasOption,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Tells the site, or the scanner; may be repeated.",
            show_default="columns called site, scanner and the like",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Its id, or its name.", metavar="MODEL", show_default="each"),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Nearest tiles of other cases to look at.")] = 10,
    tiles: Annotated[int, typer.Option(help="How many tiles to draw, at most.")] = 200,
    where: Annotated[
        str | None, typer.Option(help="Condition on the tiles that are drawn and found.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say how much of an atlas's rankings is explained by where its slides were scanned."""
    with reporting(as_json):
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.dropping import find_model
        from microtome.search.atlas_bias import BiasSettings, atlas_bias, telling_columns

        settings = BiasSettings(k, tiles, where)
        opened = Atlas.open(atlas)
        models = [find_model(opened, model).model_id] if model else list(opened.models)
        columns = column or telling_columns(opened)
        if not columns:
            raise SettingError(
                f"no column of the atlas {atlas} is called site, scanner or the like and tells "
                "its cases apart",
                remedy="Name one with --column; `microtome info` lists them.",
            )
        found = [atlas_bias(opened, one, of, settings) for of in models for one in columns]
        rows: list[dict[str, Any]] = [
            {"model": opened.models[bias.model_id].name} | bias.to_json() for bias in found
        ]
        if as_json:
            print_json({"site_bias": rows})
        else:
            shown = ["model", "column", "excess", "low", "high", "observed", "expected", "tiles"]
            print_table(f"what sites explain of the nearest {k}", rows, [*shown, "cases"])
