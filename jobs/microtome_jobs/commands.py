"""`microtome index` and `microtome demo`. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from microtome.config import (
    GridSettings,
    IndexSettings,
    MppSettings,
    ReaderChoice,
)
from microtome.console import (
    AtlasOption,
    BatchSizeOption,
    ConfigOption,
    CpusPerWorkerOption,
    Exit,
    JsonOption,
    LicencesOption,
    PrecisionOption,
    WaveSlidesOption,
    WaveSOption,
    WorkersOption,
    err,
    print_json,
    print_table,
    reporting,
)

if TYPE_CHECKING:
    from microtome.engine.run import IndexSummary

app = typer.Typer(no_args_is_help=True)

INDEX_EPILOG = """
Examples:

  microtome index slides/ --atlas atlas

  microtome index 's3://bucket/2024/*.svs' --atlas s3://bucket/atlas --manifest slides.csv

  microtome index slides/ --atlas atlas --config index.toml --json

Exit code: 0 all slides are in; 3 some failed (`microtome slides --status failed` says why);
2 a wrong setting; 1 the job could not run; 130 interrupted. Run it again to go on.
"""


@app.command(epilog=INDEX_EPILOG)
def index(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    source: Annotated[
        list[str],
        typer.Argument(help="Slides: a file, a folder, a glob or a URI.", metavar="SOURCE..."),
    ],
    atlas: AtlasOption,
    manifest: Annotated[
        str | None,
        typer.Option(
            help="CSV or Parquet with `uri` or `slide_id`, then `case_id`, `mpp` and any columns "
            "to filter by.",
            metavar="FILE",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="`tissue`, `starter`, a model folder or its URI, or a timm model.",
            metavar="NAME|FOLDER",
        ),
    ] = "tissue",
    mpp: Annotated[float, typer.Option(help="Wanted resolution, µm per pixel.")] = 0.5,
    tile_px: Annotated[int, typer.Option(help="Side of a tile at that resolution.")] = 224,
    stride_px: Annotated[
        int | None, typer.Option(help="Step between tiles.", show_default="the tile's side")
    ] = None,
    assume_mpp: Annotated[
        float | None,
        typer.Option(help="µm per pixel of slides for which nothing else says it."),
    ] = None,
    mpp_from_objective: Annotated[
        bool, typer.Option(help="Take 10 / objective where a slide has no mpp.")
    ] = False,
    reader: Annotated[
        ReaderChoice, typer.Option(help="How slides are read; auto chooses for each.")
    ] = "auto",
    min_tissue: Annotated[
        float, typer.Option(help="Least fraction of a tile that is tissue.")
    ] = 0.5,
    batch_size: BatchSizeOption = 64,
    workers: WorkersOption = 0,
    cpus_per_worker: CpusPerWorkerOption = 0,
    precision: PrecisionOption = "auto",
    wave_slides: WaveSlidesOption = 16,
    wave_s: WaveSOption = 30.0,
    allow_licence: LicencesOption = None,
    retry_failed: Annotated[
        list[str] | None,
        typer.Option(
            help="Try slides again that failed for this CAUSE, or `all`; may be repeated. Without "
            "it, files that are broken in themselves are left alone until they change.",
            metavar="CAUSE",
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Cut slides into tiles, embed them and write them to an atlas.

    Runs on a local Ray that it starts itself, on the cluster that RAY_ADDRESS names, or inside
    `ray job submit -- python -m microtome_jobs index …`. Run again, it does only what is missing.
    """
    with reporting(as_json):
        settings = IndexSettings(
            sources=tuple(source),
            atlas=atlas,
            manifest=manifest,
            model=model,
            grid=GridSettings(mpp, tile_px, tile_px if stride_px is None else stride_px),
            mpp=MppSettings(assume_mpp, mpp_from_objective),
            reader=reader,
            min_tissue=min_tissue,
            batch_size=batch_size,
            workers=workers,
            cpus_per_worker=cpus_per_worker,
            precision=precision,
            wave_slides=wave_slides,
            wave_s=wave_s,
            allow_licences=tuple(allow_licence or ()),
            retry_failed=tuple(retry_failed or ()),
        )
        from microtome.engine.index import run_index

        report_run(lambda: run_index(settings), as_json=as_json)


def report_run(run: Callable[[], IndexSummary], *, as_json: bool) -> None:
    """Run a job and print what it did; where slides failed, the command ends with `Exit.PARTLY`."""
    with redirect_stdout(sys.stderr):  # Ray prints remarks; stdout is for the result
        summary = run()
    if as_json:
        print_json(summary.to_json())
    else:
        print_summary(summary)
    if summary.failed:
        raise typer.Exit(Exit.PARTLY)


def print_summary(summary: IndexSummary) -> None:
    """Say in a few lines what a run did."""
    say = err.print
    if summary.already_done:
        say(f"{summary.already_done:,} of {summary.wanted:,} slides were in the atlas already")
    if summary.refused:
        say(f"{summary.refused:,} were forgotten and are refused; take them out of the sources")
    if failed_before := summary.left_alone - summary.refused:
        say(
            f"{failed_before:,} failed before and were left alone; try them again by "
            "--retry-failed CAUSE"
        )
    if summary.finished:
        say(
            f"[bold]{summary.done:,} done[/], {summary.empty:,} empty, {summary.failed_now:,} "
            f"failed; {summary.tiles:,} tiles, {summary.bytes_read / 1e6:,.1f} MB read"
        )
        say(
            f"{summary.embed_s:,.1f} s after {summary.startup_s:,.1f} s of start-up: "
            f"{summary.tiles_per_s:,.0f} tiles/s, {summary.s_per_slide:,.2f} s per slide"
        )
    for cause, count in sorted(summary.failed.items()):
        say(f"  {count:,} × {cause}", style="red")
    if summary.failed:
        say(
            f"microtome slides --atlas {escape(summary.atlas)} --status failed  says why",
            style="dim",
        )


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option(help="Where the slides, the atlas and the galleries go.")
    ] = Path("demo"),
    as_json: JsonOption = False,
) -> None:
    """Make slides whose tissue is known, index them, and find look-alikes of each tissue type."""
    with reporting(as_json):
        from microtome_jobs.demo import run_demo
        from microtome_jobs.made.slides import MadeSpec

        with redirect_stdout(sys.stderr):
            done = run_demo(folder, MadeSpec(), lambda step: err.print(step, style="bold"))
        answers = [
            {"tissue": answer.tissue, "hits": len(answer.result.hits), "right": answer.right}
            for answer in done.answers
        ]
        galleries = [str(path) for path in done.galleries]
        if as_json:
            print_json(
                {"index": done.summary.to_json(), "answers": answers, "galleries": galleries}
            )
        else:
            print_summary(done.summary)
            print_table("hits of the query's own tissue type", answers, ["tissue", "right", "hits"])
            err.print("look at " + ", ".join(galleries), style="bold green", markup=False)
