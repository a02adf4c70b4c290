"""Small labelled images whose class is their colour: a folder with a manifest, as a lab has it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((200, 60, 120), (90, 60, 160), (230, 190, 210), (140, 140, 60))


def write_patches(
    folder: Path, *, classes: int = 3, groups: int = 8, per_group: int = 2, side_px: int = 40
) -> Path:
    """Write noisy images of one colour per class, each group a little lighter or darker."""
    random = np.random.default_rng(7)
    rows = []
    for label in range(classes):
        (folder / f"c{label}").mkdir(parents=True, exist_ok=True)
        for number in range(groups * per_group):
            group = number // per_group
            noise = random.normal(10 * (group % 3 - 1), 20, (side_px, side_px, 3))
            pixels = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
            name = f"c{label}/{number:02}.png"
            Image.fromarray(pixels).save(folder / name)
            rows.append({"path": name, "label": f"c{label}", "group": f"c{label}g{group}"})
    write_manifest(folder, rows)
    return folder


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write `manifest.csv` anew."""
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "group"])
        writer.writeheader()
        writer.writerows(rows)


TINY = [
    "model.weights=random:0",
    "model.input_px=64",
    "model.config={backbone: test_resnet, neck_channels: 8, neck_layers: 1, dropout: 0.1}",
    "fit.batch_size=8",
    "fit.per_class=2",
    "fit.epochs=2",
    "fit.cache_features=false",
    "data.validation_fraction=0.25",
    "data.threads=2",
]
"""What turns `folder-lgffem` into something that takes seconds."""

TINY_CGD = [
    *(change for change in TINY if not change.startswith("model.config")),
    "model.config={backbone: test_resnet, descriptors: SG, dim: 16, stride: none}",
]
"""The same for `folder-cgd`."""
