"""`starter`: reproducible, offline, and able to tell made textures apart."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from microtome.models.registry import load_encoder
from microtome.models.statistics import DIM, EOSIN, HAEMATOXYLIN, TissueStatistics
from microtome.models.torch_encoder import TorchEncoder

SIDE_PX = 224
TISSUES = {  # nuclei per tile, their radius in px, eosin density
    "lymphoid": (500, 4, 0.10),
    "stroma": (25, 4, 0.45),
    "tumour": (120, 9, 0.25),
    "fat": (6, 4, 0.03),
}


def tissue(kind: str, seed: int, stain: float = 1.0) -> np.ndarray:
    """One made H&E tile: round nuclei on uneven eosin, mixed by their optical densities."""
    count, radius, eosin_od = TISSUES[kind]
    generator = np.random.default_rng([seed, count])
    nuclei = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    for x, y in generator.integers(0, SIDE_PX, (count, 2)).tolist():
        cv2.circle(nuclei, (x, y), radius, float(generator.uniform(0.5, 0.8)), -1)
    noise = generator.random((14, 14), dtype=np.float32)
    eosin = eosin_od * (0.6 + 0.8 * cv2.resize(noise, (SIDE_PX, SIDE_PX)))
    stains = [np.array(v) / np.linalg.norm(v) for v in (HAEMATOXYLIN, EOSIN)]
    density = nuclei[..., None] * stains[0] + eosin[..., None] * stains[1]
    return np.clip(256 * 10 ** (-stain * density) - 1, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def starter() -> TorchEncoder:
    return load_encoder("starter")


def statistics_of(tiles: np.ndarray) -> torch.Tensor:
    return TissueStatistics()(torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255)


@pytest.mark.parametrize("stain", [1.0, 0.85, 1.15])
def test_the_nearest_tile_is_of_the_same_tissue_on_a_slide_stained_otherwise(starter, stain):
    kinds = [kind for kind in TISSUES for _ in range(6)]
    atlas = starter.encode(np.stack([tissue(kind, seed) for seed, kind in enumerate(kinds)]))
    queries = [tissue(kind, 100 + seed, stain) for seed, kind in enumerate(kinds)]
    nearest = (starter.encode(np.stack(queries)) @ atlas.T).argmax(axis=1)
    assert [kinds[index] for index in nearest] == kinds


def test_another_process_gives_the_same_vectors(starter):
    program = (
        "import numpy as np, hashlib; from microtome.models.registry import load_encoder;"
        "tile = np.arange(224 * 224 * 3, dtype=np.uint32).reshape(1, 224, 224, 3) % 251;"
        "print(load_encoder('starter').encode(tile.astype(np.uint8)).tobytes().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    tile = np.arange(SIDE_PX**2 * 3, dtype=np.uint32).reshape(1, SIDE_PX, SIDE_PX, 3) % 251
    there = np.frombuffer(bytes.fromhex(done.stdout.strip()), np.float32)
    np.testing.assert_allclose(there, starter.encode(tile.astype(np.uint8))[0], atol=1e-6)


@pytest.mark.parametrize(
    "turn",
    [lambda x: np.rot90(x, axes=(1, 2)), lambda x: x[:, ::-1], lambda x: x[:, :, ::-1]],
    ids=["quarter turn", "upside down", "mirror"],
)
def test_statistics_do_not_see_how_a_tile_lies(turn):
    tiles = np.stack([tissue("tumour", 1), tissue("stroma", 1)])
    turned = statistics_of(np.ascontiguousarray(turn(tiles)))
    torch.testing.assert_close(turned, statistics_of(tiles), atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_statistics_of_flat_tiles_are_finite_and_of_unit_length(value):
    vector = statistics_of(np.full((1, 64, 64, 3), value, np.uint8))
    assert vector.shape == (1, DIM)
    assert vector.norm().item() == pytest.approx(1.0, abs=1e-5)


def test_statistics_agree_fully_only_with_themselves():
    vectors = statistics_of(np.stack([tissue(kind, 1) for kind in TISSUES]))
    agreement = vectors @ vectors.T
    assert (agreement >= 0).all()
    torch.testing.assert_close(agreement.diagonal(), torch.ones(4))
    assert (agreement - torch.eye(4)).max() < 0.95


def test_the_card_is_honest(starter):
    assert starter.card.training_data == "none"
    assert "untrained" in starter.card.notes
    assert starter.card.licence == "Apache-2.0"
