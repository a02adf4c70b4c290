"""What is kept of a run so that it can go on: tensors as safetensors, the rest as JSON, no pickles.

    model.safetensors       trained weights and buffers, the loss's included
    average.safetensors     their running average, where there is one
    optimiser.safetensors   its moments
    state.json              where the run stood, and the SHA-256 of each file; written last

No generator's state is kept: all that is random is seeded by its place in the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from microtome.errors import ResumeImpossible, TrainingWriteFailed

STATE_FILE = "state.json"
START_AGAIN = "Start again in another --out, or go on from an older checkpoint."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands.

    Attributes:
        epoch: the one under way, from 0.
        update: the next one of that epoch, from 0.
    """

    epoch: int = 0
    update: int = 0


@dataclass(frozen=True, slots=True)
class RunState:
    """A run at one moment.

    Attributes:
        place: the next update.
        identity: what must be equal for the run to go on: architecture, loss, classes, images.
        tensors: by file and by name, see the module's docstring.
        scaler: of fp16's gradient scaling; empty without it.
        average_updates: that the running average has seen.
        batching: what must be equal for the epoch under way to go on where it was.
    """

    place: Place
    identity: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]
    scaler: Mapping[str, Any] = field(default_factory=dict)
    average_updates: int = 0
    batching: Mapping[str, Any] = field(default_factory=dict)

    def place_for(self, batching: Mapping[str, Any], updates: int) -> Place:
        """Where a run with such batches goes on, `updates` an epoch: there, or at its start.

        With other batches the ones that were still to come aren't known.
        """
        if self.batching == batching and self.place.update < updates:
            return self.place
        return Place(self.place.epoch)


def save_state(folder: Path, state: RunState) -> None:
    """Write a state's files.

    Raises:
        TrainingWriteFailed: the disk is full.
    """
    try:
        sums = {}
        for name, tensors in state.tensors.items():
            path = folder / f"{name}.safetensors"
            save_file({key: x.detach().cpu().contiguous() for key, x in tensors.items()}, path)
            sums[name] = _sha256(path)
        facts = {
            "place": asdict(state.place),
            "identity": dict(state.identity),
            "scaler": dict(state.scaler),
            "average_updates": state.average_updates,
            "batching": dict(state.batching),
            "sha256": sums,
        }
        (folder / STATE_FILE).write_text(json.dumps(facts, indent=2), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise write_failed(error) from error


def load_state(folder: Path) -> RunState:
    """Read a state and check that every file is as it was written.

    Raises:
        ResumeImpossible: a file is missing, cut short or changed.
    """
    try:
        facts = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        tensors = {}
        for name, stated in facts["sha256"].items():
            path = folder / f"{name}.safetensors"
            if _sha256(path) != stated:
                raise ResumeImpossible(
                    f"{path.name} of the kept checkpoint was changed after it was written",
                    remedy=START_AGAIN,
                )
            tensors[name] = load_file(path)
        place = Place(**facts["place"])
        average, batching = facts["average_updates"], facts.get("batching", {})
        return RunState(place, facts["identity"], tensors, facts["scaler"], average, batching)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ResumeImpossible(
            f"the kept checkpoint can't be read ({type(error).__name__})", remedy=START_AGAIN
        ) from error


def check_identity(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `ResumeImpossible`, naming what differs, unless a run may go on from that state."""
    for name in wanted:
        if kept.get(name) != wanted[name]:
            raise ResumeImpossible(
                f"the kept checkpoint is of another {name}: {kept.get(name)!r}, not "
                f"{wanted[name]!r}",
                remedy=START_AGAIN,
            )


def write_failed(error: Exception) -> TrainingWriteFailed:
    """What a refused write means to the user."""
    text = str(error)
    words = {
        "No space left": "the disk is full",
        "File too large": "the file grew past what the system allows",
        "Permission denied": "writing there is not permitted",
        "Read-only": "writing there is not permitted",
    }
    reason = next((words[part] for part in words if part in text), type(error).__name__)
    return TrainingWriteFailed(
        f"a checkpoint could not be written: {reason}",
        remedy="The ones before it are whole; make room and go on with --resume.",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
