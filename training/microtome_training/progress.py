"""How a run goes: workers tell an actor, the driver draws a bar and writes CSV and TensorBoard."""

from __future__ import annotations

import csv
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import ray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from microtome.console import err
from microtome.errors import MicrotomeError

POLL_S = 0.5
READ_S = 5.0
LAST_READ_S = 60.0  # nothing may be missing from the files
CSV_FILE = "log.csv"
COLUMNS = ("epoch", "update", "loss", "lr", "images_per_s", "stall_share", "R@1", "mAP@R")


@dataclass(frozen=True, slots=True)
class Note:
    """A line of a run's log.

    Attributes:
        epoch: from 1.
        update: over the whole run, from 1.
        metrics: by name.
        warning: that the user should see; such a note has no metrics.
    """

    epoch: int = 0
    update: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    warning: str = ""


@ray.remote(num_cpus=0)
class _Log:
    """What workers have said."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self._failure: MicrotomeError | None = None

    def add(self, note: Note) -> None:
        self._notes.append(note)

    def fail(self, error: MicrotomeError) -> None:
        self._failure = self._failure or error

    def failure(self) -> MicrotomeError | None:
        return self._failure

    def since(self, number: int) -> list[Note]:
        return self._notes[number:]


class RunLog:
    """A handle to the log that any process of the cluster can add to, without waiting."""

    def __init__(self) -> None:
        self._log: Any = _Log.remote()  # type: ignore[attr-defined]

    def add(self, note: Note, *, surely: bool = False) -> None:
        """Say something of the run; `surely` waits until it was heard."""
        heard = self._log.add.remote(note)
        if surely:
            ray.get(heard)

    def fail(self, error: MicrotomeError) -> None:
        """Say why the run can't go on, so that no restarted worker tries again."""
        ray.get(self._log.fail.remote(error))

    def failure(self) -> MicrotomeError | None:
        """Why the run can't go on, if it can't."""
        error: MicrotomeError | None = ray.get(self._log.failure.remote())
        return error

    def since(self, number: int, timeout_s: float = READ_S) -> list[Note]:
        """What was said after so many notes; nothing where the cluster doesn't answer."""
        try:
            notes: list[Note] = ray.get(self._log.since.remote(number), timeout=timeout_s)
        except ray.exceptions.RayError:
            return []
        return notes


class RunDisplay:
    """A bar on a terminal, a line per epoch elsewhere; CSV and TensorBoard files in any case.

    Args:
        log: what the workers say.
        folder: for `log.csv` and TensorBoard's files.
        updates: of the whole run; 0 where nobody knows yet.
    """

    def __init__(self, log: RunLog, folder: Path, updates: int) -> None:
        self._log = log
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / CSV_FILE
        from tensorboardX import SummaryWriter  # workers import this module and need it not

        self._tensorboard: Any = SummaryWriter(str(folder))
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._bar = self._bars.add_task("starting", total=updates or None, facts="")
        self._seen = 0
        self.warnings: list[str] = []
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._bars.start()
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()
        self._look(LAST_READ_S)
        self._bars.stop()
        self._tensorboard.close()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_S):
            self._look()

    def _look(self, timeout_s: float = READ_S) -> None:
        notes = self._log.since(self._seen, timeout_s)
        if not notes:
            return
        self._seen += len(notes)
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            if new:
                rows.writeheader()
            for note in notes:
                if note.warning:
                    self._warn(note.warning)
                else:
                    rows.writerow({**asdict(note), **note.metrics})
                    self._show(note)

    def _warn(self, warning: str) -> None:
        """Say each thing once, however many workers say it."""
        if warning not in self.warnings:
            self.warnings.append(warning)
            err.print(warning, style="yellow", markup=False)

    def _show(self, note: Note) -> None:
        for name, value in note.metrics.items():
            self._tensorboard.add_scalar(name, value, note.update)
        facts = "  ".join(f"{name} {value:.4g}" for name, value in note.metrics.items())
        self._bars.update(
            self._bar, description=f"epoch {note.epoch}", completed=note.update, facts=facts
        )
        if "R@1" in note.metrics and not err.is_terminal:
            err.print(f"epoch {note.epoch}  {facts}", highlight=False)
