"""What contenders are called, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from microtome.errors import SettingError
from microtome.evaluation.collection import Collection
from microtome.evaluation.contenders import Asked, learnt_from, shown_name
from microtome.evaluation.protocols import PROTOCOLS
from support.coloured_atlas import MeanColour

CARD = MeanColour().card


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("tissue", "tissue"),
        ("/home/somebody/models/mine", "mine"),
        ("models/mine/", "mine"),
        ("timm:resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
        ("timm:hf-hub:owner/model", "timm:hf-hub:owner/model"),
        ("timm:resnet18@file:/home/x/w.safetensors", "timm:resnet18 (w.safetensors)"),
    ],
)
def test_a_model_s_name_holds_no_path_of_a_machine(named: str, shown: str) -> None:
    assert shown_name(named) == shown


def test_a_model_fitted_to_the_set_is_called_out() -> None:
    collection = Collection("lung", ("x",), np.zeros(1, int), (None,), ("all",), ("1",))
    cards = [
        replace(CARD, name="fitted", training_data="lung: 90 images, 3 classes"),
        replace(CARD, name="other", training_data="slides of lung and skin"),
    ]
    (note,) = learnt_from(collection, cards)
    assert note.startswith("fitted was fitted to a set called lung")


def test_what_is_asked_must_be_one_thing() -> None:
    for given in ({}, {"data": "x", "vectors": "y"}, {"vectors": "y", "models": ("tissue",)}):
        with pytest.raises(SettingError):
            Asked(PROTOCOLS["folder"], **given)
