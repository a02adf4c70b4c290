"""Processes that are killed: before or after one of their durable steps, or at any moment.

Children are forked from a server that has imported what they need and done nothing else, so one
starts in milliseconds, and Lance's threads, which survive no fork, don't exist yet.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

Side = Literal["before", "after"]
PRELOADED = [
    "microtome.engine.index",
    "microtome.engine.embed",
    "support.made_atlas",
    "_pytest.config",  # each child imports what the program does that was started: `pytest`
]
_SPAWNER = multiprocessing.get_context("forkserver")
_SPAWNER.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a process is killed; as it stands, never.

    Attributes:
        step: number of a durable step, from 0.
        side: of that step.
        after_s: seconds after its job has begun.
    """

    step: int = -1
    side: Side = "before"
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes:
        killed: whether it was killed before its job was done.
        steps: the durable steps it began, in order; one within another follows it.
        where: the innermost step it was killed in, else what it had done last.
        seconds: from the job's beginning to the process's end.
    """

    killed: bool
    steps: tuple[str, ...]
    where: str
    seconds: float


@dataclass
class Witness:
    """Stands in the process: tells of each durable step, and kills it at the one it was given."""

    told: Connection
    moment: Moment
    _begun: int = field(default=0, init=False)

    def watch(self, owner: Any, name: str, told_as: Callable[..., str] | None = None) -> None:
        """Have a method or function of `owner` count as a durable step.

        Args:
            owner: a class or module.
            name: of the function.
            told_as: what to call the step, from the function's arguments; else by its name.
        """
        durable = getattr(owner, name)
        named_by = told_as or (lambda *_, **__: name)

        @wraps(durable)
        def watched(*arguments: Any, **named: Any) -> Any:
            step, called = self._begun, named_by(*arguments, **named)
            self._begun += 1
            self.told.send(("begin", called))
            self._die_if(step, "before")
            done = durable(*arguments, **named)
            self._die_if(step, "after")
            self.told.send(("end", called))
            return done

        setattr(owner, name, watched)

    def _die_if(self, step: int, side: Side) -> None:
        if (step, side) == (self.moment.step, self.moment.side):
            os.kill(os.getpid(), signal.SIGKILL)


def run_until(moment: Moment, job: Callable[..., object], *arguments: Any) -> Ended:
    """Run `job(witness, *arguments)` in a process of its own, which is killed at that moment."""
    told, telling = _SPAWNER.Pipe(duplex=False)
    with told:
        child = start(_tell_and_run, Witness(telling, moment), job, arguments)
        telling.close()
        told.recv()
        started_s = time.monotonic()
        if moment.after_s is not None:
            child.join(moment.after_s)
            child.kill()
        child.join(120)
        seconds = time.monotonic() - started_s
        assert child.exitcode in {0, -signal.SIGKILL}, f"the child ended with {child.exitcode}"
        steps, where = _heard(told)
    return Ended(child.exitcode != 0, steps, where, seconds)


def start(job: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Start `job(*arguments)` in a process of its own."""
    tests = str(Path(__file__).parents[1])  # Python 3.11 doesn't hand its path on
    with patch.dict(os.environ, {"PYTHONPATH": tests}):
        forkserver.ensure_running()
    child = _SPAWNER.Process(target=job, args=arguments, daemon=True)  # one that hangs ends with us
    child.start()
    return child


def _tell_and_run(witness: Witness, job: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    witness.told.send(("begin", "the job"))
    job(witness, *arguments)


def _heard(told: Connection) -> tuple[tuple[str, ...], str]:
    """The steps that were begun, and the innermost one open, else the one that ended last."""
    begun: list[str] = []
    within: list[str] = []
    last = "its beginning"
    try:
        while told.poll():
            what, step = told.recv()
            if what == "begin":
                begun.append(step)
                within.append(step)
            else:
                within.remove(step)
                last = f"after {step}"
    except (EOFError, OSError):  # the pipe ends with the process, perhaps within a message
        pass
    return tuple(begun), within[-1] if within else last
