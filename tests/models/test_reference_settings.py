"""The published LGFFEM's settings files, as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from microtome.errors import ModelNotFound, SettingError
from microtome.models.lgffem import LgffemConfig
from microtome.models.reference_settings import (
    BACKBONES,
    HEADS,
    NECKS,
    read_reference_settings,
)

BACKBONE = """BACKBONE:
    MODEL_NAME: '{}'
    OUT_INDICES: [0, 1, 2, 3]
NECK:
    IN_CHANNELS: {}"""
NECK = """NECK:
    NUM_CHANNELS: 512
    NUM_LAYERS: 3"""
HEAD = """HEAD:
    P: 4.6
    EPS: 1e-6"""
FILES = {
    "backbone.yaml": BACKBONE.format("test_resnet", [32, 32, 48, 192]),
    "neck.yaml": NECK,
    "head.yaml": HEAD,
}


def read(folder: Path, **changed: str) -> LgffemConfig:
    """Read the three files, some of them changed."""
    files = FILES | {f"{name}.yaml": text for name, text in changed.items()}
    for name, text in files.items():
        (folder / name).write_text(text)
    return read_reference_settings(*(str(folder / name) for name in FILES))


def test_the_published_files_are_all_known():
    assert (len(BACKBONES), len(NECKS), len(HEADS)) == (10, 7, 1)


@pytest.mark.parametrize("file", BACKBONES)
def test_backbone_files_load_unchanged(tmp_path, file):
    name, channels = BACKBONES[file]
    config = read(tmp_path, backbone=BACKBONE.format(name, list(channels)))
    assert config == LgffemConfig(name, neck_channels=512, neck_layers=3, reference=True)


@pytest.mark.parametrize("file", NECKS)
def test_neck_files_load_unchanged(tmp_path, file):
    channels, layers = NECKS[file]
    text = f"NECK:\n    NUM_CHANNELS: {channels}\n    NUM_LAYERS: {layers}"
    config = read(tmp_path, neck=text)
    assert (config.neck_channels, config.neck_layers) == (channels, layers)


def test_head_file_loads_unchanged(tmp_path):
    config = read(tmp_path)
    assert (config.gem_p, config.gem_eps) == HEADS["00_head_A"]


# changed file, its text, the key and the file that the error names
@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("neck", NECK + "\n    COLOUR: 1", r"NECK\.COLOUR in .*neck\.yaml is no setting"),
        ("neck", NECK + "\nMORE: {A: 1}", r"MORE\.A in .*neck\.yaml"),
        ("neck", "NECK: 3", r"NECK in .*neck\.yaml must be a table"),
        ("neck", "- 1", r"neck\.yaml must hold one table"),
        ("neck", "NECK: {NUM_CHANNELS: 512}", r"NECK\.NUM_LAYERS stands in none of"),
        ("neck", NECK.replace("512", "12"), r"NUM_CHANNELS in .*neck\.yaml must be a multiple"),
        ("neck", NECK.replace("512", "'512'"), r"NUM_CHANNELS in .*must be a whole number"),
        ("neck", NECK.replace("3", "0"), r"NUM_LAYERS in .*neck\.yaml must be from 1"),
        ("neck", NECK + "\nHEAD: {P: 4.6}", r"HEAD\.P in .*head\.yaml is given in .*neck\.yaml"),
        ("head", HEAD.replace("4.6", "1"), r"HEAD\.P in .*head\.yaml must be above 1"),
        ("head", HEAD.replace("4.6", ".nan"), r"HEAD\.P in .*head\.yaml must be above 1"),
        ("head", HEAD.replace("4.6", "many"), r"HEAD\.P in .*head\.yaml must be a number"),
        ("head", HEAD.replace("1e-6", "-1e-6"), r"HEAD\.EPS in .*head\.yaml must be above 0"),
        ("head", HEAD.replace("1e-6", "yes"), r"HEAD\.EPS in .*head\.yaml must be a number"),
        ("backbone", BACKBONE.format("", []), r"MODEL_NAME in .*must be the name"),
        ("backbone", BACKBONE.format("resnet18", [1]), r"IN_CHANNELS in .*four whole numbers"),
        ("backbone", BACKBONE.format("resnet18", [64, 64, 128, -2]), "IN_CHANNELS in .*at least"),
        (
            "backbone",
            BACKBONE.format("resnet18", [96, 192, 384, 768]),
            r"IN_CHANNELS in .*must be \[64, 64, 128, 256\], the channels of resnet18",
        ),
        (
            "backbone",
            FILES["backbone.yaml"].replace("[0, 1, 2, 3]", "[1, 2, 3, 4]"),
            r"OUT_INDICES in .*backbone\.yaml must be \[0, 1, 2, 3\]",
        ),
        ("backbone", "BACKBONE: [", r"backbone\.yaml is no valid YAML"),
    ],
)
def test_what_cannot_be_right_is_named_with_its_file(tmp_path, file, text, says):
    with pytest.raises(SettingError, match=says):
        read(tmp_path, **{file: text})


def test_an_unknown_network_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="'resnet81'"):
        read(tmp_path, backbone=BACKBONE.format("resnet81", [1, 2, 3, 4]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"gone\.yaml can't be read"):
        read_reference_settings(str(tmp_path / "gone.yaml"), "neck.yaml", "head.yaml")
