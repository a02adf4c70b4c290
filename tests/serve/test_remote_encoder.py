"""Vectors of one model are never taken for another's, and nobody waits for them too long."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from microtome.errors import DeadlinePassed, ModelReplaced
from microtome.search import patience
from microtome.search.patience import Patience
from microtome_serve.embedding import check_same
from microtome_serve.remote_encoder import RemoteEncoder
from support.served_atlas import encoder_of

TILES = np.full((2, 64, 64, 3), 200, np.uint8)


class EmbedderHere:
    """What `Calls` of an embedder offers, in this process; it notes how long it may take."""

    def __init__(self, model: str) -> None:
        self._encoder = encoder_of(model)
        self.encode = SimpleNamespace(result=self._encode)
        self.given_s = 0.0

    def _encode(self, model_id: str, tiles: Any, *, timeout_s: float) -> Any:
        self.given_s = timeout_s
        check_same(self._encoder.card, model_id)
        return self._encoder.encode(tiles)


def encoder(embedder: EmbedderHere, model: str = "statistics") -> RemoteEncoder:
    return RemoteEncoder(embedder, encoder_of(model).card, timeout_s=30)  # type: ignore[arg-type]


def test_it_embeds_as_the_model_itself():
    vectors = encoder(EmbedderHere("statistics")).encode(TILES)

    np.testing.assert_array_equal(vectors, encoder_of("statistics").encode(TILES))


def test_an_embedder_that_has_another_model_now_is_refused():
    with pytest.raises(ModelReplaced):
        encoder(EmbedderHere("tissue")).encode(TILES)


def test_it_waits_as_long_as_whoever_asked():
    embedder = EmbedderHere("statistics")
    encoder(embedder).encode(TILES)
    assert embedder.given_s == 30

    with patience.shown(Patience(until_s=time.monotonic() + 25)):
        encoder(embedder).encode(TILES)
    assert 0 < embedder.given_s <= 25


def test_it_does_not_begin_what_nobody_waits_for():
    embedder = EmbedderHere("statistics")
    with pytest.raises(DeadlinePassed), patience.shown(Patience(until_s=0)):
        encoder(embedder).encode(TILES)
    assert embedder.given_s == 0
