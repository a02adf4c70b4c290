"""`run_embed` in a process of its own that is killed just before one of its durable steps."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import patch

from microtome.atlas.columns import TableVersion
from microtome.atlas.staged import VectorWriter
from microtome.atlas.writer import Writer
from microtome.engine import embed
from support.bare_embed import bare_embed

KILLED = 9
FINISHED = 0
STEPS: tuple[tuple[Any, str], ...] = (
    (Writer, "_repeat"),  # every commit, and every table made
    (VectorWriter, "_flush"),  # a worker's vectors
    (TableVersion, "write"),  # a column file
    (embed, "discard_staged"),
)

_SPAWNER = multiprocessing.get_context("forkserver")


def _start_spawner() -> None:
    """Start the process that children are forked from, with all imported that they need."""
    _SPAWNER.set_forkserver_preload([__name__])
    tests = str(Path(__file__).parents[1])  # Python 3.11 doesn't hand its path on
    with patch.dict(os.environ, {"PYTHONPATH": tests}):
        forkserver.ensure_running()


def embed_until(uri: str, step: int) -> bool:
    """Embed, killed before the durable step of that number; whether the job was through first."""
    _start_spawner()
    child = _SPAWNER.Process(target=_run, args=(uri, step))
    child.start()
    child.join(120)
    assert child.exitcode in {KILLED, FINISHED}, f"the child ended with {child.exitcode}"
    return child.exitcode == FINISHED


def _run(uri: str, step: int) -> None:
    left = step

    def before(durable: Callable[..., Any]) -> Callable[..., Any]:
        def stopping(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(KILLED)  # as by SIGKILL: nothing is closed, flushed or released
            return durable(*arguments, **named)

        return stopping

    for owner, name in STEPS:
        setattr(owner, name, before(getattr(owner, name)))
    bare_embed(uri)
