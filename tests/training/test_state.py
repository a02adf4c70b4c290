"""What is kept of a run comes back whole, or not at all."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from microtome.errors import ResumeImpossible, TrainingWriteFailed
from microtome_training.state import (
    Place,
    RunState,
    check_identity,
    load_state,
    save_state,
    write_failed,
)

STATE = RunState(
    Place(3, 17),
    {"architecture": {"kind": "cgd"}},
    {"model": {"w": torch.arange(6.0).view(2, 3)}, "optimiser": {"0.step": torch.tensor(17.0)}},
    {"scale": 1024.0},
    average_updates=99,
)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_state(tmp_path, STATE)
    back = load_state(tmp_path)
    assert (back.place, back.identity, back.scaler) == (STATE.place, STATE.identity, STATE.scaler)
    assert back.average_updates == 99
    assert torch.equal(back.tensors["model"]["w"], STATE.tensors["model"]["w"])
    assert back.tensors["optimiser"]["0.step"] == 17


# batches as kept and as wanted, 17 updates done of 20 or of 10; where the run goes on
@pytest.mark.parametrize(
    ("batching", "updates", "place"),
    [
        ({"batch_size": 8}, 20, Place(3, 17)),
        ({"batch_size": 16}, 20, Place(3, 0)),
        ({"batch_size": 8}, 10, Place(3, 0)),  # fewer workers stream fewer batches
    ],
)
def test_an_epoch_goes_on_in_its_middle_with_the_same_batches_alone(
    batching: dict[str, int], updates: int, place: Place, tmp_path: Path
) -> None:
    save_state(tmp_path, replace(STATE, batching={"batch_size": 8}))
    assert load_state(tmp_path).place_for(batching, updates) == place


def test_nothing_kept_is_a_pickle(tmp_path: Path) -> None:
    save_state(tmp_path, STATE)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def edit(path: Path) -> None:
    facts = json.loads((path.parent / "state.json").read_text())
    del facts["place"]
    (path.parent / "state.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink, edit])
def test_a_damaged_file_is_refused(damage, tmp_path: Path) -> None:
    save_state(tmp_path, STATE)
    damage(tmp_path / "model.safetensors")
    with pytest.raises(ResumeImpossible, match="checkpoint"):
        load_state(tmp_path)


def test_a_checkpoint_of_another_architecture_is_refused_and_named() -> None:
    with pytest.raises(ResumeImpossible, match=r"another architecture.*cgd.*lgffem"):
        check_identity({"architecture": "cgd"}, {"architecture": "lgffem"})


def test_a_full_disk_is_a_typed_error(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = RunState(Place(), {}, {"model": {"w": torch.zeros(100_000)}})
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(TrainingWriteFailed, match="file grew past"):
            save_state(tmp_path, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(ResumeImpossible):
        load_state(tmp_path)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("[Errno 28] Error writing bytes to file. Detail: No space left on device", "disk is full"),
        ("[Errno 13] Permission denied: '/x'", "not permitted"),
        ("something else at /secret/path", "OSError"),
    ],
)
def test_a_refused_write_says_why_without_paths(said: str, told: str) -> None:
    error = write_failed(OSError(said))
    assert told in error.message
    assert "/" not in error.message
