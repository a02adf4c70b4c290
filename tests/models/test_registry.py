"""Models by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from microtome.errors import (
    CheckpointInvalid,
    LicenceRefused,
    ModelError,
    ModelNotFound,
    SettingError,
)
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.checkpoint import save_checkpoint
from microtome.models.encoder import EncoderOptions
from microtome.models.registry import canonical_name, load_card, load_encoder
from microtome.models.torch_encoder import TorchEncoder

UNTRAINED = "timm:test_resnet@random:0"


def tiles(count: int, side_px: int = 64) -> np.ndarray:
    shape = (count, side_px, side_px, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


class Pixels(torch.nn.Module):
    """Gives back what it was given, scaled."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.flatten(1)


def pixel_encoder(scale: float = 1.0, dim: int = 3 * 16 * 16) -> TorchEncoder:
    preprocessing = Preprocessing(16, mean=(0.0, 0.0, 0.5), std=(1.0, 0.5, 1.0))
    card = ModelCard("pixels", {"kind": "test"}, preprocessing, dim, "0")
    return TorchEncoder(Pixels(scale), card, EncoderOptions("cpu"))


@pytest.mark.parametrize("name", ["starter", UNTRAINED])
@pytest.mark.parametrize("side_px", [64, 250])
def test_vectors_are_float32_of_unit_length(name, side_px):
    encoder = load_encoder(name)
    vectors = encoder.encode(tiles(2, side_px))
    assert vectors.shape == (2, encoder.card.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_tiles_vector_does_not_depend_on_its_batch():
    encoder, batch = load_encoder("starter"), tiles(3, 224)
    alone = np.concatenate([encoder.encode(batch[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(encoder.encode(batch), alone, atol=1e-4)


def test_no_tiles_give_no_vectors():
    encoder = pixel_encoder()
    assert encoder.encode(tiles(0)).shape == (0, encoder.card.dim)


def test_pixels_are_normalised_as_the_card_says():
    tile = np.full((1, 16, 16, 3), 255, np.uint8)
    channels = pixel_encoder().encode(tile).reshape(3, -1)[:, 0]
    np.testing.assert_allclose(channels / channels[0], [1.0, 2.0, 0.5], rtol=1e-5)


def test_shrinking_averages_instead_of_skipping():
    checkerboard = np.indices((64, 64)).sum(axis=0) % 2 * 255
    tile = np.repeat(checkerboard[None, ..., None], 3, axis=3).astype(np.uint8)
    grey = pixel_encoder().encode(tile).reshape(3, 16, 16)[0, 2:-2, 2:-2]
    assert grey.std() < 0.02 * grey.mean()


def test_read_only_pixels_are_taken():
    batch = tiles(1)
    batch.flags.writeable = False
    assert len(pixel_encoder().encode(batch)) == 1


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0])
def test_a_vector_without_direction_names_the_model(scale):
    with pytest.raises(ModelError, match="the model pixels gives no finite direction for 2 of 2"):
        pixel_encoder(scale).encode(tiles(2))


def test_a_card_with_another_dim_is_told():
    with pytest.raises(ModelError, match="its card says vectors of 5"):
        pixel_encoder(dim=5).encode(tiles(1))


@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 64, 32, 3), (1, 64, 64, 4)])
def test_what_is_no_batch_of_tiles_is_refused(shape):
    with pytest.raises(ValueError, match="tiles must be"):
        pixel_encoder().encode(np.zeros(shape, np.uint8))


def test_half_precision_changes_little():
    exact = load_encoder(UNTRAINED, EncoderOptions("cpu")).encode(tiles(2))
    rough = load_encoder(UNTRAINED, EncoderOptions("cpu", "bf16")).encode(tiles(2))
    assert (exact * rough).sum(axis=1).min() > 0.999
    assert not np.array_equal(exact, rough)


@pytest.mark.parametrize("name", ["starter", UNTRAINED])
def test_the_card_alone_is_the_encoders(name):
    assert load_card(name) == load_encoder(name).card


def test_a_folder_is_a_model(tmp_path):
    encoder = load_encoder(UNTRAINED)
    stored = save_checkpoint(tmp_path, encoder._module, encoder.card)
    loaded = load_encoder(str(tmp_path))
    assert loaded.card == load_card(str(tmp_path)) == stored
    assert stored.model_id == encoder.card.model_id
    np.testing.assert_array_equal(loaded.encode(tiles(1)), encoder.encode(tiles(1)))


def test_seeds_are_different_models():
    assert load_card(UNTRAINED).model_id != load_card("timm:test_resnet@random:1").model_id


def test_starters_card_is_read_without_torch():
    program = (
        "import sys; from microtome.models.registry import load_card; load_card('starter');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", ["no-such-model", "resnet18"])
def test_unknown_name_lists_what_there_is(name):
    with pytest.raises(ModelNotFound, match=rf"'{name}'.*starter.*folder.*timm:"):
        load_encoder(name)


def test_a_folder_without_a_card(tmp_path):
    with pytest.raises(CheckpointInvalid, match=r"card\.json"):
        load_card(str(tmp_path))


def test_a_hub_out_of_reach_says_how_to_do_without(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFound, match=r"test_resnet\.r160_in1k.*HF_HOME.*@file:"):
        load_encoder("timm:test_resnet.r160_in1k")


def test_non_commercial_weights_are_refused_before_they_are_fetched(tmp_path):
    name = f"timm:convnextv2_base.fcmae@file:{tmp_path}/absent.safetensors"
    with pytest.raises(LicenceRefused, match="cc-by-nc"):
        load_encoder(name)
    with pytest.raises(ModelNotFound, match="absent"):
        load_encoder(name, EncoderOptions(allow_licences=("CC-BY-NC-4.0",)))


@pytest.mark.parametrize("load", [load_card, load_encoder])
def test_a_folders_licence_counts_too(tmp_path, load):
    encoder = load_encoder(UNTRAINED)
    fields = {name: getattr(encoder.card, name) for name in ("architecture", "preprocessing")}
    card = ModelCard(
        "nc", dim=encoder.card.dim, weights_sha256="", licence="CC-BY-NC-4.0", **fields
    )
    save_checkpoint(tmp_path, encoder._module, card)
    with pytest.raises(LicenceRefused, match="CC-BY-NC"):
        load(str(tmp_path))
    load(str(tmp_path), EncoderOptions(allow_licences=("cc-by-nc-4.0",)))


@pytest.mark.parametrize(
    ("content", "says"), [(None, "can't be read"), (b"cut", "can't be read"), (..., "aren't the")]
)
def test_a_folders_card_counts_only_with_its_weights(tmp_path, content, says):
    encoder = load_encoder(UNTRAINED)
    save_checkpoint(tmp_path, encoder._module, encoder.card)
    weights = tmp_path / "weights.safetensors"
    stored = weights.read_bytes()
    weights.unlink()
    if content is not None:
        flipped = stored[:-1] + bytes([stored[-1] ^ 1])
        weights.write_bytes(flipped if content is ... else content)
    with pytest.raises(CheckpointInvalid, match=says):
        load_card(str(tmp_path))


# name, the same from any folder; {} is the folder that it was given in
@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("model", "{}/model"),
        ("./model/../model/", "{}/model"),
        ("starter", "starter"),
        ("nowhere", "nowhere"),
        ("timm:resnet18", "timm:resnet18"),
        ("timm:resnet18@random:0", "timm:resnet18@random:0"),
        ("timm:resnet18@file:w.safetensors", "timm:resnet18@file:{}/w.safetensors"),
        ("timm:resnet18@file:/w.safetensors", "timm:resnet18@file:/w.safetensors"),
    ],
)
def test_a_name_for_any_folder(tmp_path, monkeypatch, name, canonical):
    monkeypatch.chdir(tmp_path)
    for folder in ("model", "starter", "timm:resnet18"):
        Path(folder).mkdir()
    assert canonical_name(name) == canonical.format(tmp_path.resolve())


def test_real_weights_from_a_file(real_weights):
    file = real_weights / "mobilenetv2_100_imagenet.safetensors"
    encoder = load_encoder(f"timm:mobilenetv2_100@file:{file}")
    assert encoder.card.dim == 1280
    assert encoder.card.model_id != load_card("timm:mobilenetv2_100@random:0").model_id


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"precision": "fp8"}, "fp8"),
        ({"device": ""}, "device"),
        ({"allow_licences": "mit"}, "'mit'"),
    ],
)
def test_options_that_cannot_be_right(options, named):
    with pytest.raises(SettingError, match=named):
        EncoderOptions(**options)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(SettingError, match=device):
        load_encoder("starter", EncoderOptions(device))
