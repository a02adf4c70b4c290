"""Do both models learn? R@1 on lung tissue of groups that were neither learnt from nor matched.

    MICROTOME_TEST_DATA=… MICROTOME_TEST_WEIGHTS=… make bench-quality

LC25000's lung images, 224 px, three classes; a group is the source image that augmented copies were
made of. 30 % of the groups are set aside for testing; 15 % of the rest validate. Each test image is
ranked against images of other groups: those of the test set alone (R@1 new), and those of the whole
set (R@1 all), as an archive would hold what was learnt from too. Beside each fitted model stand the
same network untrained and an 8 × 8 × 8 colour histogram (square-rooted, cosine).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from microtome.datasets.labelled import LabelledSet, load_dataset, read_image, split_by_group
from microtome.engine.cluster import cluster
from microtome.models.registry import load_encoder
from microtome.models.torch_encoder import TorchEncoder
from microtome_training.model import build_embedder, fitted_card
from microtome_training.reading import load_recipe
from microtome_training.recipe import Recipe
from microtome_training.run import RunSettings, fit_sets
from microtome_training.validation import Retrieval, retrieval

SEED = 0
BINS = 8
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
COMMON = ["fit.per_class=8", "fit.batch_size=48", "fit.ema_decay=0.98", "data.threads=2"]
PRETRAINED = [
    "model.weights=file:{weights}/mobilenetv2_100_imagenet.safetensors",
    "model.licence=Apache-2.0",
    "model.mean=[0.5, 0.5, 0.5]",
    "model.std=[0.5, 0.5, 0.5]",
    "model.frozen=true",
    "model.input_px=96",
    "fit.cache_features=true",
    "fit.cache_views=3",
]
SCRATCH = [
    "model.weights=random:0",
    "model.frozen=false",
    "model.input_px=96",
    "fit.cache_features=false",
    "optimiser.lr=2e-3",
    "optimiser.backbone_lr=2e-3",
    "augmentation.crop=resized",
    "augmentation.crop_area=0.4",
]
MOBILE = "{backbone: mobilenetv2_100, pad_type: same, "
LGFFEM = "neck_channels: 32, neck_layers: 1, dropout: 0.2}"
SMALL = "test_resnet"


@dataclass(frozen=True, slots=True)
class Trial:
    """One model to fit.

    Attributes:
        name: in the table.
        base: the shipped recipe that it starts from.
        changes: to the recipe.
    """

    name: str
    base: str
    changes: list[str]

    def recipe(self, weights: Path) -> Recipe:
        """The recipe with this machine's path of the pretrained weights."""
        changes = [change.replace("{weights}", str(weights)) for change in self.changes]
        return load_recipe([self.base], [*COMMON, *changes])


TRIALS = [
    Trial(
        "LGFFEM, frozen MobileNetV2",
        "folder-lgffem",
        [*PRETRAINED, f"model.config={MOBILE}{LGFFEM}", "fit.epochs=8"],
    ),
    Trial(
        "CGD, frozen MobileNetV2",
        "folder-cgd",
        [
            *PRETRAINED,
            f"model.config={MOBILE}descriptors: SG, dim: 256, stride: none}}",
            "fit.epochs=30",
        ],
    ),
    Trial(
        f"LGFFEM, {SMALL} from scratch",
        "folder-lgffem",
        [
            *SCRATCH,
            f"model.config={{backbone: {SMALL}, {LGFFEM}",
            "augmentation.stain=0.1",
            "fit.epochs=18",
        ],
    ),
    Trial(
        f"CGD, {SMALL} from scratch",
        "folder-cgd",
        [
            *SCRATCH,
            f"model.config={{backbone: {SMALL}, descriptors: SG, dim: 256, stride: none}}",
            "fit.epochs=12",
        ],
    ),
]


def main(wanted: list[str]) -> None:
    """Run the trials whose names contain one of the words given, or all."""
    data, weights = (Path(os.environ[f"MICROTOME_TEST_{name}"]) for name in ("DATA", "WEIGHTS"))
    labelled = load_dataset(f"folder:{data}/patches/lc25000_lung224")
    rest, test = split_by_group(labelled, 0.3, SEED)
    training, validation = split_by_group(rest, 0.15, SEED)
    images = Images(rest, test)
    histogram = images.score(histograms(images.pixels))
    print(f"{len(training)} images to fit to, {len(validation)} to validate, {len(test)} to test\n")
    print("| model | R@1 new | R@1 all | mAP@R new | minutes |\n|---|---:|---:|---:|---:|")
    print(f"| colour histogram | {histogram.cells()} |  |")
    with cluster(), tempfile.TemporaryDirectory() as folder:
        for number, trial in enumerate(TRIALS):
            if wanted and not any(word in trial.name for word in wanted):
                continue
            recipe, out = trial.recipe(weights), f"{folder}/{number}"
            torch.manual_seed(SEED)
            embedder = build_embedder(recipe.model).eval()
            card = fitted_card(recipe, embedder, training, {})
            untrained = images.score(encoded(TorchEncoder(embedder, card), images.pixels))
            print(f"| {trial.name}, untrained | {untrained.cells()} |  |", flush=True)
            start = time.monotonic()
            settings = RunSettings(out, workers=1, cpus_per_worker=THREADS)
            fit_sets(recipe, settings, training, validation)
            minutes = (time.monotonic() - start) / 60
            fitted = images.score(encoded(load_encoder(out), images.pixels))
            print(f"| **{trial.name}, fitted** | {fitted.cells()} | {minutes:.1f} |", flush=True)


def pictures(labelled: LabelledSet) -> Iterator[np.ndarray]:
    """All images of a set."""
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(read_image, labelled.samples.to_pylist())


def histograms(pixels: np.ndarray) -> torch.Tensor:
    """Colour histograms whose dot product is their cosine after the square root."""
    codes = (pixels // (256 // BINS)).astype(np.int64) @ np.array([BINS * BINS, BINS, 1])
    counts = np.stack([np.bincount(code.ravel(), minlength=BINS**3) for code in codes])
    return torch.nn.functional.normalize(torch.from_numpy(counts).float().sqrt(), dim=1)


def encoded(encoder: TorchEncoder, pixels: np.ndarray) -> torch.Tensor:
    """Vectors of the images, as indexing would make them."""
    parts = [encoder.encode(pixels[i : i + 64]) for i in range(0, len(pixels), 64)]
    return torch.from_numpy(np.concatenate(parts))


@dataclass(frozen=True, slots=True)
class Score:
    """How well test images find their like.

    Attributes:
        new: among test images.
        everything: among all images.
    """

    new: Retrieval
    everything: float

    def cells(self) -> str:
        """Of the table."""
        return f"{self.new.recall_at_1:.3f} | {self.everything:.3f} | {self.new.map_at_r:.3f}"


class Images:
    """The images of a set, the last of which are test images."""

    def __init__(self, rest: LabelledSet, test: LabelledSet) -> None:
        self.labels = np.concatenate([rest.labels, test.labels])
        self.groups = [*rest.groups, *test.groups]
        self.first = len(rest)
        self.pixels = np.stack([*pictures(rest), *pictures(test)])

    def score(self, vectors: torch.Tensor) -> Score:
        """Score vectors of all images."""
        new = slice(self.first, None)
        ranked = retrieval(vectors[new], self.labels[new], self.groups[new])
        return Score(ranked, self._recall_among_all(vectors))

    def _recall_among_all(self, vectors: torch.Tensor) -> float:
        groups = np.array(self.groups)
        similarity = (vectors[self.first :] @ vectors.T).numpy()
        similarity[groups[self.first :, None] == groups[None]] = -np.inf
        nearest = self.labels[similarity.argmax(axis=1)]
        return float((nearest == self.labels[self.first :]).mean())


if __name__ == "__main__":
    main(sys.argv[1:])
