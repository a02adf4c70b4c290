"""A model as a folder: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from microtome.errors import CheckpointInvalid, ModelError
from microtome.models.backbone import WeightSource
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.cgd import CGD, CgdConfig
from microtome.models.checkpoint import load_checkpoint, save_checkpoint, weights_sha256
from microtome.models.lgffem import LGFFEM, LgffemConfig

CONFIG = LgffemConfig("test_resnet", neck_channels=8, neck_layers=1)
CARD = ModelCard(
    name="small",
    architecture=CONFIG.to_architecture(),
    preprocessing=Preprocessing(64),
    dim=CONFIG.dim,
    weights_sha256="",
    mpp=0.5,
    licence="Apache-2.0",
)


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path / "model", LGFFEM(CONFIG, WeightSource("random")), CARD)
    return tmp_path / "model"


def test_round_trip(tmp_path):
    module = LGFFEM(CONFIG, WeightSource("random", seed=3)).eval()
    stored = save_checkpoint(tmp_path, module, CARD)
    card, loaded = load_checkpoint(tmp_path)
    tile = torch.randn(1, 3, 64, 64)
    assert card == stored
    assert {path.name for path in tmp_path.iterdir()} == {"card.json", "weights.safetensors"}
    assert torch.equal(loaded(tile), module(tile))


def test_the_frozen_backbone_is_in_the_folder(folder):
    _, module = load_checkpoint(folder)
    expected = LGFFEM(CONFIG, WeightSource("random")).backbone.state_dict()
    assert weights_sha256(module.backbone.state_dict()) == weights_sha256(expected)


def test_other_weights_are_another_model(tmp_path):
    first, second = (
        save_checkpoint(tmp_path / str(s), LGFFEM(CONFIG, WeightSource("random", seed=s)), CARD)
        for s in (1, 2)
    )
    assert first.model_id != second.model_id


@pytest.mark.parametrize("missing", ["card.json", "weights.safetensors"])
def test_missing_file(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(CheckpointInvalid, match=missing):
        load_checkpoint(folder)


def test_one_changed_byte_of_the_weights(folder):
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointInvalid, match="aren't the ones its card was written for"):
        load_checkpoint(folder)


def test_truncated_weights(folder):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointInvalid, match=r"weights\.safetensors.*can't be read"):
        load_checkpoint(folder)


def test_edited_card(folder):
    file = folder / "card.json"
    content = json.loads(file.read_text())
    content["preprocessing"]["input_px"] = 256
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointInvalid, match="says id"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "architecture",
    [
        replace(CONFIG, neck_layers=2).to_architecture(),
        replace(CONFIG, backbone="test_convnext").to_architecture(),
        replace(CONFIG, backbone="no_such_net").to_architecture(),
        {"kind": "unheard-of"},
        {"kind": "starter", "version": 999},
        {"kind": "timm"},
    ],
)
def test_card_of_another_architecture(folder, architecture):
    stored = ModelCard.from_json((folder / "card.json").read_text())
    (folder / "card.json").write_text(replace(stored, architecture=architecture).to_json())
    with pytest.raises(CheckpointInvalid):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"preprocessing": 3}'])
def test_card_that_is_no_card(folder, text):
    (folder / "card.json").write_text(text)
    with pytest.raises(CheckpointInvalid):
        load_checkpoint(folder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"the model folder .*file can't be written"):
        save_checkpoint(tmp_path / "file", LGFFEM(CONFIG, WeightSource("random")), CARD)


def test_a_full_disk_leaves_the_old_model(folder, monkeypatch):
    def full(weights, path):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    before = load_checkpoint(folder)[0]
    monkeypatch.setattr("microtome.models.checkpoint.save_file", full)
    with pytest.raises(ModelError, match="No space left on device"):
        save_checkpoint(folder, LGFFEM(CONFIG, WeightSource("random", seed=9)), CARD)
    assert load_checkpoint(folder)[0] == before
    assert {path.name for path in folder.iterdir()} == {"card.json", "weights.safetensors"}


def test_a_saved_cgd_loads(tmp_path):
    config = CgdConfig("test_resnet", dim=8)
    module = CGD(config, WeightSource("random")).eval()
    card = replace(CARD, architecture=config.to_architecture(), dim=config.dim)
    save_checkpoint(tmp_path, module, card)
    tile = torch.randn(1, 3, 64, 64)
    assert torch.equal(load_checkpoint(tmp_path)[1](tile), module(tile))
