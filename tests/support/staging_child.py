"""Another process that stages a slide when it is told to, and lets it go when told again."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import Any

from microtome.slides.opening import slide_files_of
from microtome.slides.slide import SlideRef
from microtome.slides.staging import localised

# One server of forks for all tests of a process: what it imports ahead is for `killing` to say.
_PROCESSES = multiprocessing.get_context("forkserver")


class Child:
    """Looks at a slide, and waits before each further step for `go_on`."""

    def __init__(self, uri: str) -> None:
        self._line, theirs = _PROCESSES.Pipe()
        variables = {name: value for name, value in os.environ.items() if "_" in name}
        self._process = _PROCESSES.Process(target=_run, args=(uri, variables, theirs), daemon=True)
        self._process.start()
        theirs.close()
        assert self.says() == "has looked"

    def says(self) -> Any:
        return self._line.recv()

    def go_on(self) -> None:
        self._line.send("go on")

    def kill(self) -> None:
        """End it as an out-of-memory killer does."""
        self._process.kill()
        self._process.join()


def _run(uri: str, variables: dict[str, str], line: Connection) -> None:
    os.environ.update(variables)
    files = slide_files_of(SlideRef("the-slide", uri))
    line.send("has looked")
    line.recv()
    local = localised(files)
    with open(local.path, "rb") as file:
        line.send((local.bytes_copied, file.read(1)[0]))
    line.recv()
    local.discard()
    line.recv()
