"""`microtome verify` and `microtome maintain`. Heavy imports wait until a command runs."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from microtome.console import (
    AtlasOption,
    ConfigOption,
    Exit,
    JsonOption,
    counted,
    err,
    out,
    print_json,
    print_table,
    reporting,
)

if TYPE_CHECKING:
    from microtome.atlas.index_codes import Codes
    from microtome.atlas.index_coding import Coder, CodingWork
    from microtome.atlas.maintain import Maintained
    from microtome.atlas.repair import Repaired
    from microtome.atlas.verify import Report

app = typer.Typer(no_args_is_help=True)

SHOWN = 50  # findings; --json gives all

VERIFY_EPILOG = """
Examples:

  microtome verify --atlas atlas

  microtome verify --atlas s3://bucket/atlas --vectors --json

  microtome verify --atlas atlas --repair

Exit code: 0 everything holds; 1 a promise is broken, or the atlas can't be read; 2 a wrong setting.
"""

MAINTAIN_EPILOG = """
Examples:

  microtome maintain --atlas atlas

  microtome maintain --atlas s3://bucket/atlas --retention-days 1 --no-index

  ray job submit -- python -m microtome_jobs maintain --atlas s3://bucket/atlas --workers 32

Exit code: 0 done; 1 another job writes to the atlas, or the store refuses; run it again to go on.
"""


@app.command(epilog=VERIFY_EPILOG)
def verify(
    atlas: AtlasOption,
    vectors: Annotated[
        bool,
        typer.Option("--vectors", help="Also read every vector, and hash every tile id anew."),
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended, then look again.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Prove that every planned tile is in the atlas once; writes nothing without --repair."""
    with reporting(as_json):
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.repair import repair as mend
        from microtome.atlas.verify import verify as look
        from microtome.atlas.writer import open_writer

        repaired: Repaired | None = None
        with err.status("") as status:
            if repair:
                Atlas.open(atlas)  # taking the lease would make a folder
                with open_writer(atlas, "verify --repair") as writer:
                    repaired = mend(writer, vectors=vectors, starting=status.update)
            report = (
                repaired.after if repaired else look(atlas, vectors=vectors, starting=status.update)
            )
        if as_json:
            print_json(repaired.to_json() if repaired else report.to_json())
        else:
            for action in repaired.actions if repaired else ():
                out.print(f"mended: {action}", markup=False, highlight=False)
            print_report(report)
    if not report.holds:
        raise typer.Exit(Exit.FAILED)


def print_report(report: Report) -> None:
    """Print each check in a line, then what was found."""
    rows = [
        {
            "check": check.name,
            "what holds": check.promise,
            "rows": f"{check.rows:,}",
            "found": sum(finding.severity == "broken" for finding in check.findings),
            "seconds": f"{check.seconds:.2f}",
        }
        for check in report.checks
    ]
    print_table("what must hold", rows, list(rows[0]))
    for finding in report.findings[:SHOWN]:
        mends = " (--repair mends it)" if finding.mendable else ""
        style = "red" if finding.severity == "broken" else "yellow"
        line = f"{finding.check}: {finding.subject}: {finding.message}{mends}"
        out.print(line, style=style, markup=False, highlight=False)
    if len(report.findings) > SHOWN:
        out.print(f"… and {len(report.findings) - SHOWN:,} more; --json lists them", style="dim")
    verdict = "everything holds" if report.holds else f"{len(report.broken):,} findings"
    style = "bold green" if report.holds else "bold red"
    out.print(f"{verdict}: {report.uri}", style=style, markup=False, highlight=False)
    if report.at_work:
        err.print(f"meanwhile at work: {report.at_work}", style="dim", markup=False)


@app.command(epilog=MAINTAIN_EPILOG)
def maintain(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    atlas: AtlasOption,
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Leave the indices as they are, as --index none.")
    ] = False,
    index: Annotated[
        str,
        typer.Option(
            help="`compact` is what searches use. For those who query with lancedb, one of Lance's "
            "own besides: `ivf_rq`, `ivf_pq` or `ivf_hnsw_sq`. Or `none`.",
            metavar="KIND",
        ),
    ] = "compact",
    retention_days: Annotated[
        float,
        typer.Option(help="How long files stay that only readers of older versions need."),
    ] = 7.0,
    workers: Annotated[
        int,
        typer.Option(
            help="Tasks on Ray that code vectors for the index, each on one core: on the cluster "
            "that RAY_ADDRESS names, else on a Ray of its own.",
            show_default="all cores of RAY_ADDRESS's cluster; without one, this process alone",
        ),
    ] = 0,
    check_recall: Annotated[
        bool,
        typer.Option(
            "--check-recall",
            help="Then compare searches with stored tiles to an exact scan: recall of the nearest.",
        ),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Compact an atlas, build and extend its indices, and remove what nobody needs any more."""
    with reporting(as_json):
        from microtome.atlas.maintain import DAY_S, MaintainSettings
        from microtome.atlas.maintain import maintain as run_maintain
        from microtome.search.calibration import store_calibrations

        choice = "none" if no_index else index
        settings = MaintainSettings(retention_days * DAY_S, choice)  # type: ignore[arg-type]
        with err.status("") as status:
            further = {} if choice == "none" else {"calibrate": store_calibrations}
            done = run_maintain(atlas, settings, status.update, further, coder(workers))
        recalls = measured_recall(atlas) if check_recall else []
        if as_json:
            print_json(done.to_json() | ({"recall": recalls} if check_recall else {}))
        else:
            print_maintained(done)
            if check_recall:
                shown = ["model", "recall", "k", "sample", "path", "problem"]
                print_table("of the nearest, found by a search", recalls, shown)


def coder(workers: int) -> Coder:
    """Who codes vectors; Ray isn't even imported where it isn't wanted."""
    if workers or os.environ.get("RAY_ADDRESS"):
        from microtome.engine.index_coding import CodingOnRay

        return CodingOnRay(workers)
    from microtome.atlas.index_coding import code_here

    def code(codes: Codes, work: CodingWork) -> int:
        with counted("vectors coded", work.rows) as advance:
            return code_here(codes, work, advance)

    return code


def measured_recall(uri: str) -> list[dict[str, object]]:
    """The recall of a search by each model, ready for a table or JSON."""
    from microtome.atlas.atlas import Atlas
    from microtome.search.recall import check_recall

    atlas = Atlas.open(uri)
    return [
        {"model": card.name, "model_id": model_id} | asdict(check_recall(atlas, model_id))
        for model_id, card in atlas.models.items()
    ]


def print_maintained(done: Maintained) -> None:
    """Print each step, then each table before and after."""
    steps = [
        {"step": step.name, "did": step.did or None, "seconds": f"{step.seconds:.2f}"}
        for step in done.steps
    ]
    print_table("what was done", steps, ["step", "did", "seconds"])
    tables = [
        {"table": name}
        | {
            f"{what} {when}": f"{value:,.1f}" if what == "MB" else f"{value:,}"
            for when, size in (("before", done.before[name]), ("after", done.after[name]))
            for what, value in (
                ("fragments", size.fragments),
                ("versions", size.versions),
                ("MB", size.stored_bytes / 1e6),
            )
        }
        | {"rows": f"{done.after[name].rows:,}"}
        for name in done.after
    ]
    print_table(done.uri, tables, list(tables[0]))
