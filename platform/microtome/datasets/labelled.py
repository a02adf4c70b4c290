"""The front of the package: what training and evaluation need of labelled images.

labelled = load_dataset("folder:patches/breakhis")
training, held_out = split_by_group(labelled, 0.2, seed=0)
pixels = read_image(training.samples.slice(0, 1).to_pylist()[0])
"""

from __future__ import annotations

from microtome.datasets.catalogue import load_dataset
from microtome.datasets.image import read_image
from microtome.datasets.samples import SAMPLES, LabelledSet
from microtome.datasets.splits import split_by_group

__all__ = ["SAMPLES", "LabelledSet", "load_dataset", "read_image", "split_by_group"]
