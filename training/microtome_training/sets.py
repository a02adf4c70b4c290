"""A recipe's images: read, parted into what is learnt from and judged by, and checked."""

from __future__ import annotations

from dataclasses import replace

from microtome.atlas.labelled import load_labelled
from microtome.datasets.labelled import LabelledSet, split_by_group
from microtome.errors import SettingError
from microtome_training.augmentation import scale_of
from microtome_training.recipe import DataRecipe, Recipe

TRAINING = "train"
VALIDATION = ("val", "valid", "validation")


def read_sets(recipe: Recipe) -> tuple[LabelledSet, LabelledSet | None]:
    """The images to fit to, and those to judge by; no slide or patient in both.

    Raises:
        SettingError: no such set or split, or the loss can't use a class.
        DatasetError: the set can't be read or parted.
    """
    data = recipe.data
    if not data.dataset:
        raise SettingError(
            "the recipe names no images", remedy="Pass --data KIND:PATH, e.g. folder:PATH."
        )
    labelled = with_mpp(load_labelled(data.dataset), data)
    learnt, judged = splits_of(labelled, data)
    training = labelled.split(learnt)
    if judged:
        return training, labelled.split(judged)
    if data.validation_fraction:
        return split_by_group(training, data.validation_fraction, recipe.fit.seed)
    return training, None


def splits_of(labelled: LabelledSet, data: DataRecipe) -> tuple[str, str | None]:
    """Names of the splits to fit to and to judge by; `test` only where the recipe names it.

    Raises:
        SettingError: the set has several, and which to fit to isn't said.
    """
    if data.train_split:
        return data.train_split, data.validation_split
    if data.validation_split:
        raise SettingError("data.train_split must be named beside data.validation_split")
    if len(labelled.splits) == 1:
        return next(iter(labelled.splits)), None
    if TRAINING not in labelled.splits:
        raise SettingError(
            f"{labelled.name} has the splits {', '.join(labelled.splits)}",
            remedy="Name the one to fit to by data.train_split, another by data.validation_split.",
        )
    return TRAINING, next((name for name in VALIDATION if name in labelled.splits), None)


def with_mpp(labelled: LabelledSet, data: DataRecipe) -> LabelledSet:
    """The set with the resolution that the recipe states.

    Raises:
        SettingError: the set says another; or nobody does, and `data.mpp` needs it.
    """
    if data.images_mpp is not None and labelled.mpp not in {None, data.images_mpp}:
        raise SettingError(
            f"data.images_mpp is {data.images_mpp:g}, but {labelled.name} has {labelled.mpp:g}",
            remedy="Leave data.images_mpp out.",
        )
    known = replace(labelled, mpp=data.images_mpp or labelled.mpp)
    scale_of(data, known.mpp)
    return known


def checked_classes(training: LabelledSet, recipe: Recipe) -> LabelledSet:
    """The set, with a note on classes of one image; refused where the loss needs two.

    Raises:
        SettingError: fewer than two classes; or triplets, and a class has a single image.
    """
    counts = [int((training.labels == label).sum()) for label in range(len(training.classes))]
    if sum(count > 0 for count in counts) < 2:
        raise SettingError(f"{training.name} has fewer than two classes to tell apart")
    single = [name for name, n in zip(training.classes, counts, strict=True) if n == 1]
    if not single:
        return training
    named = ", ".join(single[:5]) + (" …" if len(single) > 5 else "")
    if recipe.objective.kind == "triplet":
        raise SettingError(
            f"{named}: one image to fit to, but triplets need two of each class",
            remedy="Bring more images, leave the class out, or take an arcface recipe.",
        )
    return training.noted(f"{named}: one image to fit to, seen again and again in varied form")
