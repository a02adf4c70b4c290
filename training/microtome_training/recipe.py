"""A recipe: everything that decides how a model is fitted, as frozen values that check themselves.

    Recipe
    ├─ model          which network, whose weights, frozen or not
    ├─ objective      the loss
    ├─ data           labelled images, their split, what becomes of corrupt ones
    ├─ augmentation   what is varied from epoch to epoch
    ├─ optimiser      the rule, rates, clipping
    ├─ schedule       how the rates move
    └─ fit            epochs, batches, precision, averaging, caching, checkpoints

A wrong value raises `SettingError` when the value is made, so before any work starts; `reading`
puts the section's name before the key. Where and on how many workers a recipe runs is no part of
it: see `run.RunSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

from microtome.config import check_choice, check_fraction, check_positive, check_whole
from microtome.errors import SettingError
from microtome.models.card import Preprocessing
from microtome_training.recipe_fit import (
    FitRecipe,
    OptimiserRecipe,
    ScheduleRecipe,
    check_not_negative,
)

ModelKind = Literal["lgffem", "cgd", "projection"]
ObjectiveKind = Literal["arcface", "triplet", "fisher"]
CropKind = Literal["resized", "mpp", "reference", "none"]
Feeding = Literal["sampler", "ray-data"]
Channels = tuple[float, float, float]
IMAGENET = Preprocessing()


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """Which network.

    Attributes:
        kind: `lgffem` or `cgd`; or `projection`, see `projecting`, which takes all but `config` and
            `allow_licences` from its encoder.
        weights: of the backbone: `hub`, `random:SEED` or `file:PATH`.
        frozen: keep the backbone as it is.
        config: fields of `LgffemConfig`, `CgdConfig` or `ProjectionConfig`, e.g. `backbone`;
            `matryoshka_dims` of the first are trained for.
        input_px: side of the square input.
        mean: per channel, in [0, 1] units.
        std: per channel, in [0, 1] units.
        licence: of the backbone's weights, an SPDX name; None takes what timm says of them.
        allow_licences: licences of weights that aren't permissive and are accepted, by name.
    """

    kind: ModelKind
    weights: str = "hub"
    frozen: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    input_px: int = 224
    mean: Channels = IMAGENET.mean
    std: Channels = IMAGENET.std
    licence: str | None = None
    allow_licences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(ModelKind))
        Preprocessing(self.input_px, self.mean, self.std)
        if not all(isfinite(value) for value in self.mean):
            raise SettingError(f"mean must hold finite numbers, not {self.mean!r}")

    @property
    def preprocessing(self) -> Preprocessing:
        """As the model's card holds it."""
        return Preprocessing(self.input_px, self.mean, self.std)


@dataclass(frozen=True, slots=True)
class ObjectiveRecipe:
    """The loss.

    Attributes:
        kind: `arcface`, Sub-center ArcFace over all classes; `triplet`, batch-hard triplets beside
            CGD's auxiliary classifier; or `fisher`, a projection's closed form.
        margin_deg: ArcFace's margin as an angle in degrees, as pytorch-metric-learning takes it.
        scale: ArcFace's factor before the softmax.
        sub_centers: centres of each class.
        margin: triplets', a Euclidean distance between unit vectors.
        temperature: of the auxiliary classifier's softmax.
        label_smoothing: of the auxiliary classifier.
        classification_weight: of the auxiliary classifier's loss beside the triplets'.
        shrinkage: of `fisher`; the fewer images of a class, the more is good.
    """

    kind: ObjectiveKind = "arcface"
    margin_deg: float = 28.6
    scale: float = 64.0
    sub_centers: int = 3
    margin: float = 0.1
    temperature: float = 0.5
    label_smoothing: float = 0.1
    classification_weight: float = 1.0
    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(ObjectiveKind))
        check_positive("margin_deg", self.margin_deg, most=180.0)
        check_positive("scale", self.scale)
        check_whole("sub_centers", self.sub_centers, least=1, most=64)
        check_positive("margin", self.margin, most=2.0)
        check_positive("temperature", self.temperature)
        check_fraction("label_smoothing", self.label_smoothing)
        check_not_negative("classification_weight", self.classification_weight)
        check_positive("shrinkage", self.shrinkage)


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Labelled images.

    Attributes:
        dataset: what `microtome.datasets.load_dataset` takes, e.g. `folder:PATH`; may be empty in
            a recipe that is completed by `--data`.
        train_split: name of the published split to fit to; None takes a set without splits whole,
            and of others `train`, judged by `val`, `valid` or `validation` if there is one.
        validation_split: name of the published split to judge by, beside `train_split`.
        validation_fraction: of the groups (slides, patients) to hold out where no split judges; 0
            holds out none.
        mpp: µm per pixel that the model is made for, with `augmentation.crop: mpp`; None takes
            whole images, at whatever resolution.
        images_mpp: µm per pixel that the images have, where the set doesn't say.
        max_corrupt: share of images that may be unreadable before training stops.
        feeding: `sampler` or `ray-data`, see `feeding`.
        threads: that decode ahead, per worker.
    """

    dataset: str = ""
    train_split: str | None = None
    validation_split: str | None = None
    validation_fraction: float = 0.15
    mpp: float | None = None
    images_mpp: float | None = None
    max_corrupt: float = 0.01
    feeding: Feeding = "sampler"
    threads: int = 4

    def __post_init__(self) -> None:
        check_fraction("validation_fraction", self.validation_fraction)
        for name in ("mpp", "images_mpp"):
            value = getattr(self, name)
            if value is not None:
                check_positive(name, value, most=100.0)
        check_fraction("max_corrupt", self.max_corrupt)
        check_choice("feeding", self.feeding, get_args(Feeding))
        check_whole("threads", self.threads, least=1, most=256)


@dataclass(frozen=True, slots=True)
class AugmentationRecipe:
    """What varies from epoch to epoch.

    Attributes:
        crop: `resized`, a random part of random shape as for photographs; `mpp`, a random square
            at the model's resolution, zoomed by no more than `zoom` (without `data.mpp`, of the
            whole image); `reference`, the whole image an eighth too large and a random part of it;
            `none`, the whole image.
        crop_area: least share of the image that `resized` keeps.
        zoom: largest factor by which `mpp` zooms in or out, 1.25 is a quarter.
        flips: mirror, and turn by quarters; tissue has no upright.
        mirror: only mirror left and right, as the references do; `flips` includes it.
        stain: standard deviation of the factor and half that of the shift of each stain in
            haematoxylin-eosin-DAB space (Tellez et al., arXiv 1902.06543); 0 is off.
        brightness: largest change of brightness, a share; 0 is off.
        blur: chance of a slight Gaussian blur.
    """

    crop: CropKind = "mpp"
    crop_area: float = 0.25
    zoom: float = 1.25
    flips: bool = True
    mirror: bool = True
    stain: float = 0.05
    brightness: float = 0.1
    blur: float = 0.1

    def __post_init__(self) -> None:
        check_choice("crop", self.crop, get_args(CropKind))
        check_positive("crop_area", self.crop_area, most=1.0)
        check_positive("zoom", self.zoom, most=8.0)
        if self.zoom < 1:
            raise SettingError(f"zoom must be at least 1, not {self.zoom:g}")
        check_fraction("stain", self.stain)
        check_fraction("brightness", self.brightness)
        check_fraction("blur", self.blur)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model is fitted; see the module's docstring.

    Attributes:
        name: for people; the model's card bears it.
        notes: where the values come from.
    """

    name: str
    model: ModelRecipe
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    fit: FitRecipe = field(default_factory=FitRecipe)
    notes: str = ""

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise SettingError(f"name must be a plain word, not {self.name!r}")
        if (self.objective.kind == "fisher") != (self.model.kind == "projection"):
            raise SettingError("objective.kind must be fisher for a projection, and for it alone")
        if self.objective.kind == "triplet" and self.model.kind != "cgd":
            raise SettingError(
                "objective.kind must be arcface for lgffem, which has no auxiliary classifier"
            )
        if self.objective.kind == "triplet" and self.fit.per_class is None:
            raise SettingError("fit.per_class must be set for triplets, e.g. to 4")
        if self.schedule.warmup_epochs > self.fit.epochs:
            raise SettingError(
                f"schedule.warmup_epochs must be at most the {self.fit.epochs} of fit.epochs, not "
                f"{self.schedule.warmup_epochs:g}"
            )
        if self.data.mpp is not None and self.augmentation.crop != "mpp":
            raise SettingError("data.mpp must be left out where augmentation.crop isn't mpp")
        if self.fit.cache_features and not self.model.frozen:
            raise SettingError("fit.cache_features must be false where model.frozen is false")
        if self.data.feeding == "ray-data" and (self.fit.per_class or self.fit.cache_features):
            raise SettingError(
                "data.feeding must be sampler where fit.per_class or fit.cache_features is set: "
                "Ray Data can't draw by class"
            )
