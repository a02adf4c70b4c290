"""Small sets, each laid out as published, for every protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from support.coloured_atlas import MeanColour, Quilt, make_atlas
from support.labelled_sets import write_kimia24, write_pictures
from support.made_patches import write_patches

TISSUES = ("Breast", "Colon", "Lung")
BRACS = ("0_N", "1_PB", "2_UDH", "3_FEA", "4_ADH", "5_DCIS", "6_IC")


def _kimia24(folder: Path) -> str:
    return str(write_kimia24(folder / "Kimia_Path24.h5"))


def _kimia24c(folder: Path) -> str:
    return str(
        write_pictures(
            folder,
            [
                f"{split}/s{s}/{i}.png"
                for split, n in (("Training", 3), ("Test", 2))
                for s in range(24)
                for i in range(n)
            ],
        )
    )


def _pannuke(folder: Path) -> str:
    names = [f"images/fold{f}_{i}_{TISSUES[i % 3]}.png" for f in (1, 2, 3) for i in range(15)]
    return str(write_pictures(folder, names))


def _bracs(folder: Path) -> str:
    names = [
        f"{split}/{label}/BRACS_{first + i}_{label[2:]}_{i}.png"
        for split, first, count in (("train", 100, 6), ("val", 200, 1), ("test", 300, 4))
        for label in BRACS
        for i in range(count)
    ]
    return str(write_pictures(folder, names))


def _bach(folder: Path) -> str:
    kinds = ("Normal", "Benign", "InSitu", "Invasive")
    return str(write_pictures(folder, [f"Photos/{k}/{i}.tif" for k in kinds for i in range(15)]))


def _crc(folder: Path) -> str:
    names = [
        f"Grade{1 + patient % 3}_Patient_{patient:03}_{i}.png"
        for patient in range(12)
        for i in range(4)
    ]
    return str(write_pictures(folder, names))


def _folder(folder: Path) -> str:
    return str(write_patches(folder, side_px=16))


def _atlas(folder: Path) -> str:
    rows = (("pink", "tan", "purple"),) * 3
    quilts = tuple(
        Quilt(f"s{i}", rows, f"case {i // 2}", ("skin", "liver")[i // 2 % 2], i) for i in range(8)
    )
    return f"{make_atlas(folder, MeanColour(), quilts).uri}#organ"


PUBLISHED: Mapping[str, Callable[[Path], str]] = {
    "kimia24": _kimia24,
    "kimia24c": _kimia24c,
    "pannuke": _pannuke,
    "bracs": _bracs,
    "bach": _bach,
    "crc": _crc,
    "folder": _folder,
    "atlas": _atlas,
}
"""For each protocol, what writes a set and gives the `--data` to name."""
