"""`python -m microtome_training train …`: the entry point that `ray job submit` runs."""

from microtome.console import run
from microtome_training.commands import app

run(app)
