"""Where a run's result lies: a folder, or an object store through fsspec."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.fs
from torch import nn

from microtome.errors import SettingError
from microtome.models.card import ModelCard
from microtome.models.checkpoint import save_checkpoint
from microtome.slides.storage import filesystem_of, is_remote
from microtome_training.state import write_failed

RUN_FOLDER = "training"
SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list of checkpoints; a run that has one can go on."""


class Storage:
    """The output folder of a run.

    Credentials come from the environment of each process that opens it, never from here.

    Args:
        out: folder or fsspec URI.

    Attributes:
        path: of the output on its filesystem.
        filesystem: for Ray Train; None for a folder of this machine.
        local: whether it is a folder of this machine.
    """

    def __init__(self, out: str) -> None:
        self._out = out
        self._filesystem, self.path = filesystem_of(out.rstrip("/"))
        self.local = not is_remote(out)
        self.filesystem: Any = None
        if not self.local:
            self.filesystem = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self._filesystem))

    @property
    def run_path(self) -> str:
        """Of checkpoints and logs."""
        return f"{self.path}/{RUN_FOLDER}"

    def check(self, *, resume: bool) -> None:
        """Refuse to mix a new run with one that lies there.

        Raises:
            SettingError: a run lies there and shall not go on; or the folder can't be made.
        """
        try:
            if self.local:
                os.makedirs(self.run_path, exist_ok=True)
            exists = self._filesystem.exists(f"{self.run_path}/{SNAPSHOT}")
        except OSError as error:
            raise SettingError(f"{self._out} can't be used as --out: {error.strerror}") from error
        if exists and not resume:
            raise SettingError(
                f"{self._out} holds a run already",
                remedy="Go on with --resume, or name another --out.",
            )

    def save(self, module: nn.Module, card: ModelCard) -> ModelCard:
        """Store a model; returns its card as stored.

        Raises:
            TrainingWriteFailed: the disk is full, or the store refuses.
        """
        try:
            if self.local:
                return save_checkpoint(self.path, module, card)
            with TemporaryDirectory(prefix="microtome-") as folder:
                stored = save_checkpoint(folder, module, card)
                self._put(folder, self.path)
            return stored
        except OSError as error:
            raise write_failed(error) from error

    def upload(self, logs: Path) -> None:
        """Bring logs that were written elsewhere beside the checkpoints."""
        if not self.local:
            self._put(str(logs), self.run_path)

    def _put(self, folder: str, path: str) -> None:
        for file in sorted(Path(folder).iterdir()):
            self._filesystem.put_file(str(file), f"{path}/{file.name}")
