"""The graph: ingress → search → embedder, as Ray Serve deploys it.

A Serve config file names `microtome_serve.app:build` and gives it the settings as `args`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ray import serve

from microtome.atlas.atlas import Atlas
from microtome.atlas.reading import allowed_licences, model_source
from microtome.errors import ModelMismatch
from microtome.models.card import ModelCard
from microtome.models.encoder import EncoderOptions
from microtome.models.registry import canonical_name, load_card
from microtome_serve.embedding import Embedder
from microtome_serve.ingress import Ingress
from microtome_serve.meter import Meter
from microtome_serve.picture_reading import Pictures
from microtome_serve.rollout import Rollout
from microtome_serve.searching import SearchReplica
from microtome_serve.settings import Scale, ServeSettings

ALONE: Final = Scale(cpus=0, max_ongoing=100, max_queued=1000)
"""What is said once a second by every process, and kept in one place."""


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application of a Serve config file.

    Raises:
        SettingError: see `ServeSettings.from_args`.
        AtlasError, ModelError: see `resolved`.
    """
    return application(resolved(ServeSettings.from_args(args)))


def resolved(settings: ServeSettings) -> ServeSettings:
    """The settings with the model and the licences that the atlas itself names, checked.

    Raises:
        AtlasError: there is no such atlas, or it can't be read.
        ModelError: a model can't be used, or the atlas holds no vectors of it.
    """
    atlas = Atlas.open(settings.atlas)
    licences = tuple(sorted({*settings.allow_licences, *allowed_licences(atlas)}))
    model = canonical_name(settings.model or model_source(atlas))
    candidate = canonical_name(settings.candidate) if settings.candidate else None
    for name in (model, candidate):
        if name is not None:
            _check_held(atlas, _card(name, replace(settings, allow_licences=licences)))
    return replace(settings, model=model, candidate=candidate, allow_licences=licences)


def _card(model: str, settings: ServeSettings) -> ModelCard:
    return load_card(model, EncoderOptions(allow_licences=settings.allow_licences))


def _check_held(atlas: Atlas, card: ModelCard) -> None:
    if card.model_id not in atlas.models:
        held = ", ".join(f"{one.name} ({name})" for name, one in atlas.models.items())
        raise ModelMismatch(
            f"the atlas {atlas.uri} holds vectors of {held}, not of {card.name} ({card.model_id})",
            remedy="Add them with `microtome embed --model NAME`, or serve with one it holds.",
        )


def application(settings: ServeSettings) -> serve.Application:
    """The graph of resolved settings."""
    named = {"model": settings.model, "candidate": settings.candidate}
    embedders = {
        slot: _deployed(Embedder, settings.embedder, f"Embedder-{slot}").bind(model, settings)
        for slot, model in named.items()
        if model is not None
    }
    cards = {slot: _card(model, settings) for slot, model in named.items() if model is not None}
    rollout = _deployed(Rollout, ALONE).bind(settings)
    search = _deployed(SearchReplica, settings.search).bind(settings, cards, embedders, rollout)
    pictures = _deployed(Pictures, settings.pictures).bind(settings)
    ingress = _deployed(Ingress, settings.ingress)
    meter = _deployed(Meter, ALONE).bind()
    return ingress.bind(settings, search=search, pictures=pictures, rollout=rollout, meter=meter)


def _deployed(kind: Any, scale: Scale, name: str | None = None) -> Any:
    """A class as a deployment of that scale, ready to be bound."""
    deployment = kind if isinstance(kind, serve.Deployment) else serve.deployment(kind)
    return deployment.options(name=name or deployment.name, **scale.options())
