"""What every command shares: how it prints, how it fails, and where its settings come from.

Results go to stdout (a table, or JSON with --json); progress and errors go to stderr.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from datetime import time as time_of_day
from enum import IntEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from microtome.config import Precision, apply_storage, read_settings_file
from microtome.errors import MicrotomeError, SettingError

out = Console(width=None if sys.stdout.isatty() else 140)
err = Console(stderr=True)
LOG_EVERY_S = 15.0  # where stderr is a log and no terminal


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1  # the command could not do its work
    USAGE = 2  # a wrong flag or setting; nothing was started
    PARTLY = 3  # the job went through, but some slides failed: see `microtome slides`
    INTERRUPTED = 130  # Ctrl-C; what was committed stays, the same command goes on from there


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Turn our errors into one clear message, on stdout as JSON if asked, and an exit code."""
    try:
        yield
    except MicrotomeError as error:
        if as_json:
            print_json({"error": error_facts(error)})
        else:
            err.print("error:", style="bold red", end=" ")
            err.print(error.message, markup=False, highlight=False)
            if error.remedy:
                err.print(error.remedy, style="dim", markup=False, highlight=False)
        code = Exit.USAGE if isinstance(error, SettingError) else Exit.FAILED
        raise typer.Exit(code) from None
    except KeyboardInterrupt:
        err.print("interrupted", style="yellow")
        raise typer.Exit(Exit.INTERRUPTED) from None


def error_facts(error: MicrotomeError) -> dict[str, str]:
    """An error as scripts read it."""
    return {"cause": error.cause, "message": error.message, "remedy": error.remedy}


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; in a log, a line now and then. The block calls what it is given.

    Args:
        what: is counted.
        total: how many there are, at most.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    )
    task, logged = bar.add_task(what, total=total), time.monotonic()

    def advance(count: int) -> None:
        nonlocal logged
        bar.advance(task, count)
        if not err.is_terminal and time.monotonic() - logged >= LOG_EVERY_S:
            logged = time.monotonic()
            err.print(f"{what}: {bar.tasks[0].completed:,.0f} of {total:,}", highlight=False)

    with bar:
        yield advance


def print_json(value: Any) -> None:
    """Print one JSON document on stdout: dates as ISO 8601 text, NaN and infinity as null."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(text + "\n")


def print_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows under the named columns; numbers stand right, text folds."""
    table = Table(
        title=escape(title), title_justify="left", header_style="bold", box=None, pad_edge=False
    )
    for column in columns:
        numeric = any(isinstance(row.get(column), int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return escape(str(value))


def _plain(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case date() | time_of_day():
            return value.isoformat()
        case Mapping():
            return {name: _plain(one) for name, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case _:
            return value


def _take_settings_file(context: typer.Context, path: str | None) -> str | None:
    if path is not None and not context.resilient_parsing:
        with reporting(as_json=False):
            settings = read_settings_file(path)
            apply_storage(path, settings.pop("storage", {}))
            context.default_map = _known_settings(context.command, settings, path)
    return path


def _known_settings(command: Any, settings: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Settings under the parameter names that the command looks up; an unknown one is an error."""
    names = {
        str(option): str(option) for option in (parameter.name for parameter in command.params)
    }
    for parameter in command.params:
        for flag in parameter.opts:
            names[flag.lstrip("-").replace("-", "_")] = str(parameter.name)
    unknown = sorted(settings.keys() - names.keys())
    if unknown:
        raise SettingError(
            f"the settings file {path} names {', '.join(unknown)}, which {command.name} hasn't",
            remedy=f"It knows: {', '.join(sorted(set(names) - {'config', 'help'}))}.",
        )
    return {names[name]: value for name, value in settings.items()}


ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="TOML or YAML file whose keys are the long flags; flags given here win. Its table "
        "`storage` may name endpoint, region, profile and ca-bundle of the object store.",
        callback=_take_settings_file,
        is_eager=True,
        metavar="FILE",
    ),
]
AtlasOption = Annotated[
    str, typer.Option("--atlas", help="Folder or s3:// URI of the atlas.", metavar="URI")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
LicencesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-licence",
        help="Allow weights under this non-permissive licence; may be repeated.",
    ),
]

# What every job that embeds takes.
BatchSizeOption = Annotated[int, typer.Option(help="Tiles per call of the model.")]
WorkersOption = Annotated[
    int, typer.Option(help="Processes that embed.", show_default="one per GPU or four cores")
]
CpusPerWorkerOption = Annotated[
    int, typer.Option(help="Cores of each.", show_default="an equal share")
]
PrecisionOption = Annotated[Precision, typer.Option(help="Of the network; auto is bf16 on a GPU.")]
WaveSlidesOption = Annotated[int, typer.Option(help="Slides per commit, at most.")]
WaveSOption = Annotated[
    float, typer.Option(help="Seconds after which what is finished is committed.")
]


def run(app: typer.Typer) -> None:
    """Run an app's command line; Ctrl-C and SIGTERM end it with its own exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()
