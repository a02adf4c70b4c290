"""What the model that ships is worth: R@1 beside a colour histogram, random weights and starter.

    MICROTOME_TEST_DATA=… python tests/benchmarks/training/shipped.py [MADE_FOLDER]

Each image is ranked against those of other groups (fields, source images, patients):

made        kinds of tissue that nothing was fitted to: split `test` of `microtome made-patches`,
            made here unless its folder is given
lung        LC25000's lung images, 224 px, three classes; a group is a source image
colorectal  a few of Kather's 2016 tiles, eight tissues; a group is a patient
breast      a few BreakHis images at 100 ×, eight diagnoses; a group is a patient

The last two are too few to tell models apart by a few hundredths. None was fitted to or chosen by.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from microtome.datasets.labelled import LabelledSet, load_dataset, read_image
from microtome.evaluation.peers import ColourHistogram
from microtome.models.registry import load_encoder
from microtome_jobs.made.patches import make_patches
from microtome_training.validation import retrieval

MODELS = ("timm:mobilenetv3_small_050@random:0", "starter", "tissue")
SIDE_PX = 224

Embed = Callable[[np.ndarray], np.ndarray]


def main(made: str | None) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = made or str(make_patches(Path(scratch)).parent)
        sets = dict(labelled_sets(folder))
        print(f"| model | {' | '.join(f'{name} ({len(x)})' for name, x in sets.items())} |")
        print(f"|---|{'---:|' * len(sets)}")
        embedders = {"colour histogram": ColourHistogram().encode} | {
            m: load_encoder(m).encode for m in MODELS
        }
        for name, embed in embedders.items():
            scores = [f"{recall(embed, labelled):.3f}" for labelled in sets.values()]
            print(f"| {name} | {' | '.join(scores)} |", flush=True)


def labelled_sets(made: str) -> Iterator[tuple[str, LabelledSet]]:
    """The sets of the module's docstring."""
    patches = Path(os.environ["MICROTOME_TEST_DATA"]) / "patches"
    yield "made", load_dataset(f"folder:{made}").split("test")
    yield "lung", load_dataset(f"folder:{patches}/lc25000_lung224")
    yield "colorectal", load_dataset(f"folder:{patches}/kather2016_samples")
    yield "breast", load_dataset(f"folder:{patches}/breakhis100x")


def recall(embed: Embed, labelled: LabelledSet) -> float:
    """R@1 of a set."""
    vectors = np.concatenate([embed(pixels) for pixels in batches(labelled)])
    return retrieval(torch.from_numpy(vectors), labelled.labels, labelled.groups).recall_at_1


def batches(labelled: LabelledSet) -> Iterator[np.ndarray]:
    """Images in order, (N, SIDE_PX, SIDE_PX, 3) uint8."""
    with ThreadPoolExecutor(2) as pool:
        pixels = pool.map(square, labelled.samples.to_pylist())
        while part := list(islice(pixels, 64)):
            yield np.stack(part)


def square(sample: dict[str, object]) -> np.ndarray:
    """The middle square of an image, at the models' input size."""
    pixels = read_image(sample)
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    middle = pixels[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > SIDE_PX else cv2.INTER_LINEAR
    return cv2.resize(middle, (SIDE_PX, SIDE_PX), interpolation=method)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
