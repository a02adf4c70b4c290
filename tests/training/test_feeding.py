"""Batches come in one order with equal pixels; what can't be read is counted, within a bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microtome.datasets.labelled import LabelledSet, load_dataset
from microtome.errors import ImagesCorrupt
from microtome_training.augmentation import View
from microtome_training.feeding import Corruption, ImageReader, SampledFeed, plain_batches
from microtome_training.recipe import AugmentationRecipe
from microtome_training.sampler import Batches, Share
from support.made_patches import write_patches

ALONE = Share()
VIEW = View(AugmentationRecipe(), 24)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    return load_dataset(f"folder:{write_patches(tmp_path_factory.mktemp('set'))}")


def reader_of(labelled: LabelledSet, allowed: float = 0.0) -> ImageReader:
    return ImageReader(labelled, Corruption(len(labelled), allowed))


def feed_of(reader: ImageReader, share: Share = ALONE, threads: int = 2) -> SampledFeed:
    return SampledFeed(reader, Batches(reader.labels, 8, 2, 0), share, VIEW, threads)


def damaged(labelled: LabelledSet, folder: Path, *numbers: int) -> LabelledSet:
    """A copy of the set in which some images of class c0 are cut short."""
    made = write_patches(folder)
    for number in numbers:
        path = made / f"c0/{number:02}.png"
        path.write_bytes(path.read_bytes()[:60])
    return load_dataset(f"folder:{made}")


def test_threads_don_t_change_what_is_fed(labelled) -> None:
    one, four = (list(feed_of(reader_of(labelled), threads=n).epoch(1, 0)) for n in (1, 4))
    assert len(one) == len(labelled) // 8
    assert all((a.inputs == b.inputs).all() for a, b in zip(one, four, strict=True))


def test_an_epoch_taken_up_in_its_middle_goes_on_with_the_same_pixels(labelled) -> None:
    whole = list(feed_of(reader_of(labelled)).epoch(2, 0))
    rest = list(feed_of(reader_of(labelled)).epoch(2, 4))
    assert all((a.inputs == b.inputs).all() for a, b in zip(whole[4:], rest, strict=True))


def test_two_workers_are_fed_what_one_would_be(labelled) -> None:
    whole = next(feed_of(reader_of(labelled)).epoch(0, 0))
    parts = [next(feed_of(reader_of(labelled), Share(r, 2)).epoch(0, 0)) for r in (0, 1)]
    for rank, part in enumerate(parts):
        assert (part.inputs == whole.inputs[rank::2]).all()
        assert (part.labels == whole.labels[rank::2]).all()


def test_labels_are_those_of_the_pixels(labelled) -> None:
    plain = View(AugmentationRecipe("none", stain=0, brightness=0, blur=0), 24)
    feed = SampledFeed(reader_of(labelled), Batches(labelled.labels, 8, 2, 0), Share(), plain, 2)
    for batch in feed.epoch(0, 0):
        blue_over_red = batch.inputs.float().mean(dim=(1, 2))
        classes = np.argmin([[abs(x[0] - c) for c in (200, 90, 230)] for x in blue_over_red], 1)
        assert (classes == batch.labels.numpy()).all()


def test_a_corrupt_image_is_counted_and_another_of_its_class_stands_in(labelled, tmp_path) -> None:
    reader = reader_of(damaged(labelled, tmp_path, 3), allowed=0.05)
    batches = list(feed_of(reader).epoch(0, 0))
    assert {len(batch.labels) for batch in batches} == {8}
    assert [*reader.corruption.messages.values()] == [
        "c0/03.png is no image that can be read, or is cut short"
    ]


def test_too_many_corrupt_images_end_it_and_are_named(labelled, tmp_path) -> None:
    reader = reader_of(damaged(labelled, tmp_path, 3, 5, 8), allowed=0.05)
    with pytest.raises(ImagesCorrupt, match=r"3 of 48.*c0/0"):
        list(feed_of(reader).epoch(0, 0))


def test_validation_leaves_corrupt_images_out_and_counts_them(labelled, tmp_path) -> None:
    reader = reader_of(damaged(labelled, tmp_path, 3), allowed=0.05)
    parts = list(plain_batches(reader, np.arange(48), VIEW, (20, 2)))
    assert [len(pixels) for _, pixels in parts] == [19, 20, 8]
    assert 3 not in np.concatenate([images for images, _ in parts])
    assert len(reader.corruption.messages) == 1
