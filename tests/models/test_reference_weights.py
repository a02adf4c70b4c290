"""The published LGFFEM's checkpoints: every tensor finds its place, or the file is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from microtome.errors import CheckpointInvalid, SettingError
from microtome.models.backbone import WeightSource
from microtome.models.lgffem import LgffemConfig
from microtome.models.reference_weights import convert_reference
from support.published_lgffem import embed, make_head, make_neck

CONFIG = LgffemConfig("test_resnet", neck_channels=16, neck_layers=2, reference=True)
IN_CHANNELS = (32, 32, 48, 192)
UNTRAINED = WeightSource("random")


@pytest.fixture
def neck() -> dict[str, torch.Tensor]:
    return make_neck(IN_CHANNELS, channels=16, layers=2)


@pytest.fixture
def head() -> dict[str, torch.Tensor]:
    return make_head(channels=16)


def saved(folder: Path, neck, head, **others) -> str:
    file = folder / "best.pth"
    content = {"model_neck_state_dict": neck, "model_head_state_dict": head, **others}
    torch.save(content, file)
    return str(file)


def test_computes_what_the_published_model_computes(tmp_path, neck, head):
    model = convert_reference(saved(tmp_path, neck, head), CONFIG, UNTRAINED)
    pixels = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = embed(neck, head, model.backbone(pixels))
        torch.testing.assert_close(model(pixels), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected.norm(dim=1), torch.ones(2))


def test_the_rest_of_a_checkpoint_is_left_alone(tmp_path, neck, head):
    training = {
        "loss_state_dict": {"W": torch.zeros(64, 144)},
        "scheduler_state_dict": None,
        "epoch": 499,
        "best_loss": np.mean(np.array([0.25], np.float32)),
        "fn_cfg_model_neck": "config/02_neck_512_3.yaml",
    }
    convert_reference(saved(tmp_path, neck, head, **training), CONFIG, UNTRAINED)


def test_fusion_weights_may_stand_anywhere_in_their_layer(tmp_path, neck, head):
    moved = {name: neck[name] for name in sorted(neck, key=lambda name: ".w_" in name)}
    assert list(moved) != list(neck)
    pixels = torch.randn(1, 3, 32, 32)
    first, second = (
        convert_reference(saved(tmp_path, state, head), CONFIG, UNTRAINED)(pixels)
        for state in (neck, moved)
    )
    torch.testing.assert_close(first, second)


GATE = "neck_layer_1.p22_lca_P21"


# what is done to the neck, what the error says
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda neck: neck.pop(f"{GATE}.pwconv2.bias"), r"no tensor for layers\.1\.outer2\.1\.exc"),
        (lambda neck: neck.update({f"{GATE}.extra.weight": torch.ones(1)}), "without a place.*ext"),
        (lambda neck: neck.update({"other.weight": torch.ones(1)}), "without a place other.weight"),
        (lambda neck: neck.update({"neck_layer_2.w_p31": torch.ones(2)}), "without a place"),
        (lambda neck: neck.update({"neck_layer_0.w_more": torch.ones(2)}), "place.*w_more"),
        (lambda neck: neck.update({f"{GATE}.alpha": torch.ones(2)}), r"another shape.*\(2 for 1\)"),
        (lambda neck: neck[f"{GATE}.alpha"].fill_(float("nan")), "aren't finite"),
    ],
)
def test_a_neck_that_does_not_fit_exactly_is_refused(tmp_path, neck, head, spoil, says):
    spoil(neck)
    with pytest.raises(CheckpointInvalid, match=f"best.pth has .*{says}"):
        convert_reference(saved(tmp_path, neck, head), CONFIG, UNTRAINED)


def test_a_head_that_does_not_fit_exactly_is_refused(tmp_path, neck, head):
    head["h5.fc.weight"] = head.pop("h4.fc.weight")
    with pytest.raises(CheckpointInvalid, match=r"without a place h5\.fc\.weight"):
        convert_reference(saved(tmp_path, neck, head), CONFIG, UNTRAINED)


def test_settings_of_another_size_are_refused(tmp_path, head):
    neck = make_neck(IN_CHANNELS, channels=32, layers=2)
    with pytest.raises(CheckpointInvalid, match="another shape than the settings say"):
        convert_reference(saved(tmp_path, neck, head), CONFIG, UNTRAINED)


@pytest.mark.parametrize("content", [[], {}, {"model_neck_state_dict": {"a": 1}}])
def test_what_is_no_such_checkpoint_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointInvalid, match=r"other\.pth has no table of tensors"):
        convert_reference(str(tmp_path / "other.pth"), CONFIG, UNTRAINED)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut", None])
def test_what_is_no_file_of_torchs_is_refused(tmp_path, content):
    file = tmp_path / "broken.pth"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointInvalid, match=r"broken\.pth"):
        convert_reference(str(file), CONFIG, UNTRAINED)


class RunsWhenOpened:
    """A pickle that makes a folder on being loaded by a careless reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    "save", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, protocol=2))]
)
def test_nothing_in_a_pickle_runs(tmp_path, save):
    save({"model_neck_state_dict": RunsWhenOpened(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointInvalid, match="more than tensors and plain values"):
        convert_reference(str(tmp_path / "evil.pth"), CONFIG, UNTRAINED)
    assert not (tmp_path / "ran").exists()


def test_only_the_reference_takes_its_weights(tmp_path, neck, head):
    config = LgffemConfig("test_resnet", neck_channels=16, neck_layers=2)
    with pytest.raises(SettingError, match="reference=True"):
        convert_reference(saved(tmp_path, neck, head), config, UNTRAINED)
