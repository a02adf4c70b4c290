"""`microtome evaluate`. Heavy imports wait until a command runs."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True)
