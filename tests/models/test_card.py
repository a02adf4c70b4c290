"""The card: its id is what it computes with, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microtome.errors import CheckpointInvalid, SettingError
from microtome.models.card import ModelCard, Preprocessing

CARD = ModelCard(
    name="a",
    architecture={"kind": "timm", "backbone": "resnet18", "pad_type": ""},
    preprocessing=Preprocessing(),
    dim=512,
    weights_sha256="ab" * 32,
    mpp=0.5,
    metrics={"recall@1": 0.9},
)


def test_round_trip():
    assert ModelCard.from_json(CARD.to_json()) == CARD


@pytest.mark.parametrize(
    "change",
    [
        {"name": "b"},
        {"mpp": 0.25},
        {"licence": "MIT"},
        {"metrics": {}},
        {"notes": "x"},
        {"training_data": "y"},
    ],
)
def test_what_is_said_of_a_model_leaves_its_id(change):
    assert replace(CARD, **change).model_id == CARD.model_id


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": {"kind": "timm", "backbone": "resnet34", "pad_type": ""}},
        {"preprocessing": Preprocessing(256)},
        {"preprocessing": Preprocessing(mean=(0.5, 0.5, 0.5))},
        {"weights_sha256": "cd" * 32},
    ],
)
def test_what_a_model_computes_with_is_its_id(change):
    assert replace(CARD, **change).model_id != CARD.model_id


def test_the_id_is_stable():
    assert CARD.model_id == "86cc5973b595"


def test_a_stated_id_must_fit():
    with pytest.raises(CheckpointInvalid, match=CARD.model_id):
        ModelCard.from_json(CARD.to_json().replace('"resnet18"', '"resnet50"'))


@pytest.mark.parametrize("fields", [{"input_px": 8}, {"std": (0.0, 1.0, 1.0)}])
def test_impossible_preprocessing(fields):
    with pytest.raises(SettingError):
        Preprocessing(**fields)
