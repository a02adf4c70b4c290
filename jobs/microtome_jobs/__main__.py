"""`python -m microtome_jobs index …`: the entry point that `ray job submit` runs."""

from microtome.console import run
from microtome_jobs.commands import app

run(app)
