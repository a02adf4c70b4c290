"""A prefix of a model's vectors is a model of its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from microtome.errors import SettingError
from microtome.models.backbone import WeightSource
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.cgd import CGD, CgdConfig
from microtome.models.checkpoint import load_checkpoint, save_checkpoint
from microtome.models.lgffem import LGFFEM, LgffemConfig
from microtome.models.registry import load_encoder
from microtome.models.shorten import shorten_checkpoint

UNTRAINED = WeightSource("random")
CONFIG = LgffemConfig(
    "test_resnet", neck_channels=8, neck_layers=1, projection_dim=16, matryoshka_dims=(4, 8)
)


def save(folder, module, config) -> ModelCard:
    card = ModelCard(
        "long",
        config.to_architecture(),
        Preprocessing(64),
        config.dim,
        "",
        licence="Apache-2.0",
        metrics={"recall@1": 0.5},
    )
    return save_checkpoint(folder, module, card)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "long", LGFFEM(CONFIG, UNTRAINED), CONFIG)
    return tmp_path / "long"


def test_gives_the_prefix_at_unit_length(folder):
    card = shorten_checkpoint(str(folder), str(folder.parent / "short"), 4)
    (long_card, long), (stored, short) = (
        load_checkpoint(path) for path in (folder, folder.parent / "short")
    )
    pixels = torch.randn(3, 3, 64, 64)
    assert stored == card
    assert (card.dim, long_card.dim) == (4, 16)
    torch.testing.assert_close(short(pixels), F.normalize(long(pixels)[:, :4], dim=1))


def test_is_a_model_of_its_own(folder):
    card = shorten_checkpoint(str(folder), str(folder.parent / "short"), 8)
    encoder = load_encoder(str(folder.parent / "short"))
    assert encoder.card.dim == 8
    assert card.model_id != load_encoder(str(folder)).card.model_id
    assert not card.metrics  # they were measured on the long vectors
    assert "first 8 values of long's vectors" in card.notes


@pytest.mark.parametrize("dim", [16, 5, 0])
def test_only_prefixes_that_were_trained(folder, dim):
    with pytest.raises(SettingError, match=rf"can't be shortened to {dim} values.*: 4, 8"):
        shorten_checkpoint(str(folder), str(folder.parent / "short"), dim)
    assert not (folder.parent / "short").exists()


def test_a_model_without_prefixes(tmp_path):
    config = CgdConfig("test_resnet", dim=8)
    save(tmp_path / "cgd", CGD(config, UNTRAINED), config)
    with pytest.raises(SettingError, match="trained for: none"):
        shorten_checkpoint(str(tmp_path / "cgd"), str(tmp_path / "short"), 4)
