"""`python -m microtome_jobs index …`: the entry point that `ray job submit` runs."""

from microtome.console import run
from microtome_jobs import annotate_commands, atlas_commands, change_commands, model_commands
from microtome_jobs.commands import app

for further in (atlas_commands, change_commands, model_commands, annotate_commands):
    app.add_typer(further.app)
run(app)
