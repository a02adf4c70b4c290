"""`microtome serve` and `microtome token`. Heavy imports wait until a command runs."""

from __future__ import annotations

import typer

from microtome_serve import token_commands

app = typer.Typer(no_args_is_help=True)
app.add_typer(token_commands.app, name="token")
