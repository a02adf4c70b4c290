"""The model that ships: offline, whole, honest, and better than colour alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from microtome.config import IndexSettings
from microtome.datasets.labelled import load_dataset, read_image
from microtome.evaluation.peers import ColourHistogram
from microtome.models.checkpoint import read_weights
from microtome.models.registry import SHIPPED, load_card, load_encoder, shipped_cards
from microtome_jobs.made.kinds import random_kind
from microtome_jobs.made.patches import painted
from microtome_training.validation import retrieval

NAME = "tissue"
RANDOM = "timm:mobilenetv3_small_050@random:0"
SIDE_PX = 224
GOLDEN = [0.1671, -0.1678, 0.126, 0.0902]  # first values of the tile below


def encode(name: str, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    encoder = load_encoder(name)
    return np.concatenate([encoder.encode(pixels[i : i + 64]) for i in range(0, len(pixels), 64)])


def recalls(pixels: NDArray[np.uint8], labels: list[int], groups: list[str]) -> dict[str, float]:
    """R@1 of each way to embed, among images of other groups."""
    found = {name: encode(name, pixels) for name in (NAME, RANDOM)}
    found["histogram"] = ColourHistogram().encode(pixels)
    return {
        name: retrieval(torch.from_numpy(x), np.array(labels), groups).recall_at_1
        for name, x in found.items()
    }


def test_every_folder_is_what_its_card_says():
    folders = [path.parent for path in SHIPPED.glob("*/card.json")]
    assert NAME in {folder.name for folder in folders}
    for folder in folders:
        card = load_card(folder.name)
        assert card.name == folder.name
        assert read_weights(folder, card)  # raises unless the hash is the card's


def test_the_card_is_honest():
    card = load_card(NAME)
    assert card.licence == "Apache-2.0"
    assert "192 classes" in card.training_data
    assert "no patient" in card.notes
    assert "no diagnoses" in card.notes


def test_it_is_what_indexing_takes_unasked():
    assert IndexSettings(sources=("x",), atlas="y").model in shipped_cards()


def test_vectors_are_the_same_on_every_machine():
    rows = np.indices((SIDE_PX, SIDE_PX)).sum(axis=0)
    tile = np.stack([rows % 251, rows * 3 % 239, rows * 7 % 241], axis=2).astype(np.uint8)
    vector = encode(NAME, tile[None])[0]
    np.testing.assert_allclose(vector[:4], GOLDEN, atol=2e-4)


def test_kinds_it_never_saw_are_told_apart_better_than_by_colour_or_chance():
    places = [(kind, field) for kind in range(12) for field in range(4)]
    kinds = [random_kind(np.random.default_rng([77, kind])) for kind in range(12)]
    pixels = np.stack(
        [painted(np.random.default_rng([78, *place]), kinds[place[0]], SIDE_PX) for place in places]
    )
    found = recalls(pixels, [kind for kind, _ in places], [str(place) for place in places])
    assert found[NAME] > 0.8
    assert found[NAME] > max(found["histogram"], found[RANDOM]) + 0.1


def test_lung_tissue_is_told_apart_better_than_by_chance(real_data):
    """One image in forty; the whole set is measured by `benchmarks/training/shipped.py`."""
    whole = load_dataset(f"folder:{real_data}/patches/lc25000_lung224")
    some = whole.take(np.arange(0, len(whole), 40))
    pixels = np.stack([read_image(image) for image in some.samples.to_pylist()])
    found = recalls(pixels, some.labels.tolist(), list(some.groups))
    assert found[NAME] > 0.75
    assert found[NAME] > found[RANDOM] + 0.1
