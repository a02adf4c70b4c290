"""`python -m microtome_training train …`: the entry point that `ray job submit` runs."""

import typer

from microtome.console import run
from microtome_training.commands import app

root = typer.Typer(no_args_is_help=True)
root.add_typer(app)  # within another, an app of one command still goes by its name
run(root)
