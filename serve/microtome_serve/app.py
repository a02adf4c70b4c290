"""The graph: ingress → search → embedder, as Ray Serve deploys it.

A Serve config file names `microtome_serve.app:build` and gives it the settings as `args`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ray import serve

from microtome_serve.embedding import Embedder
from microtome_serve.ingress import Ingress
from microtome_serve.picture_reading import Pictures
from microtome_serve.searching import SearchReplica
from microtome_serve.settings import ServeSettings


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
        ModelError: the model can't be used, or the atlas holds no vectors of it.
    """
    from microtome.atlas.atlas import Atlas
    from microtome.atlas.reading import allowed_licences, model_source

    atlas = Atlas.open(settings.atlas)
    licences = sorted({*settings.allow_licences, *allowed_licences(atlas)})
    return replace(
        settings,
        model=settings.model or model_source(atlas),
        allow_licences=tuple(licences),
    )


def application(settings: ServeSettings) -> serve.Application:
    """The graph of resolved settings."""
    embedder = Embedder.options(**settings.embedder.options()).bind(settings.model, settings)
    search = SearchReplica.options(**settings.search.options()).bind(settings, embedder)
    pictures = Pictures.options(**settings.pictures.options()).bind(settings)
    return Ingress.options(**settings.ingress.options()).bind(settings, search, pictures)
