"""The model of a recipe: its network, whose licence it is under, and its card."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from microtome.datasets.labelled import LabelledSet
from microtome.errors import SettingError
from microtome.models.backbone import TimmNetwork, WeightSource, weights_licence
from microtome.models.card import ModelCard
from microtome.models.cgd import CGD, CgdConfig
from microtome.models.lgffem import LGFFEM, LgffemConfig
from microtome.models.licence import check_licence
from microtome_training.averaging import copy_into, trained_state
from microtome_training.objective import Embedder
from microtome_training.recipe import ModelRecipe, Recipe

CONFIGS: dict[str, type[LgffemConfig] | type[CgdConfig]] = {
    "lgffem": LgffemConfig,
    "cgd": CgdConfig,
}
PREFIX = "embedder."
"""Of the model's own weights among the objective's."""


def network_config(recipe: ModelRecipe) -> LgffemConfig | CgdConfig:
    """The network's shape.

    Raises:
        SettingError: an unknown field, or a value that can't be right.
    """
    if recipe.kind not in CONFIGS:
        raise SettingError(f"a {recipe.kind} is fitted in one step, see `projecting`")
    kind = CONFIGS[recipe.kind]
    known = [field.name for field in dataclasses.fields(kind)]
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in recipe.config.items()
    }
    for name in fields:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise SettingError(
                f"the recipe has an unknown key model.config.{name}",
                remedy=f"Did you mean {close[0]}?" if close else f"Known are {', '.join(known)}.",
            )
    if fields.get("output_dim") is not None:
        raise SettingError(
            "in the recipe, model.config.output_dim must be left out: it shortens a fitted model",
            remedy="Name lengths to train for by model.config.matryoshka_dims.",
        )
    if "backbone" not in fields:
        raise SettingError("the recipe lacks model.config.backbone, a timm network")
    try:
        return kind(**fields)
    except SettingError as error:
        raise SettingError(
            f"in the recipe, model.config.{error.message}", remedy=error.remedy
        ) from None


def build_embedder(recipe: ModelRecipe) -> Embedder:
    """The untrained model on its backbone.

    Raises:
        SettingError: the recipe is wrong.
        ModelNotFound: no such backbone, or its weights can't be had here.
    """
    config, weights = network_config(recipe), WeightSource.parse(recipe.weights)
    if isinstance(config, LgffemConfig):
        return LGFFEM(config, weights, frozen=recipe.frozen)
    # Batch norms that never saw data must learn; trained ones are better kept, as the paper does.
    fixed = weights.kind != "random"
    return CGD(config, weights, frozen=recipe.frozen, fixed_norms=fixed)


def inherited_licence(recipe: ModelRecipe) -> str:
    """The licence that the fitted weights inherit from the backbone's, checked.

    Raises:
        LicenceRefused: it isn't permissive and wasn't allowed by name.
    """
    backbone = TimmNetwork(network_config(recipe).backbone)
    weights = WeightSource.parse(recipe.weights)
    licence = recipe.licence or weights_licence(backbone, weights)
    check_licence(backbone.name, licence, recipe.allow_licences)
    return licence


def fitted_embedder(recipe: ModelRecipe, weights: Mapping[str, Tensor]) -> Embedder:
    """The model with fitted weights, in evaluation mode.

    Args:
        recipe: of the model.
        weights: the objective's, by name, as a run's state holds them.
    """
    embedder = build_embedder(recipe).eval()
    own = {name.removeprefix(PREFIX): x for name, x in weights.items() if name.startswith(PREFIX)}
    copy_into(trained_state(embedder), own)
    return embedder


def fitted_card(
    recipe: Recipe, embedder: Embedder, fitted_to: LabelledSet, metrics: Mapping[str, float]
) -> ModelCard:
    """The card of a fitted model; its hash is set where it is stored."""
    groups = len({group for group in fitted_to.groups if group is not None})
    grouped = f", {groups} groups" if groups else ""
    return ModelCard(
        name=recipe.name,
        architecture=embedder.config.to_architecture(),
        preprocessing=recipe.model.preprocessing,
        dim=embedder.config.dim,
        weights_sha256="",
        mpp=recipe.data.mpp,
        licence=inherited_licence(recipe.model),
        training_data=f"{fitted_to.name}: {len(fitted_to)} images, "
        f"{len(fitted_to.classes)} classes{grouped}",
        metrics=dict(metrics),
        notes=f"Fitted by recipe {recipe.name} for {recipe.fit.epochs} epochs. Metrics are of "
        "images held out, each ranked against those of other groups.",
    )


def resolved(recipe: Recipe) -> Recipe:
    """The recipe as it holds on other machines' working folders: local paths absolute."""
    kind, mark, path = recipe.model.weights.partition("file:")
    if not mark or kind:
        return recipe
    weights = f"file:{Path(path).expanduser().resolve()}"
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, weights=weights))
