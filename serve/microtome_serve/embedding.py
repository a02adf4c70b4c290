"""`Embedder`: the deployment that holds the model; tiles of several requests are embedded together.

`RemoteEncoder` makes it an encoder like any other, so that whatever searches in the library embeds
through it without knowing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from microtome.errors import ModelReplaced
from microtome.models.card import ModelCard
from microtome.models.encoder import EncoderOptions
from microtome_serve.meter import report_to_meter
from microtome_serve.metrics import BATCH_TILES, TALLY
from microtome_serve.settings import ServeSettings

Tiles = NDArray[np.uint8]
Vectors = NDArray[np.float32]


def tiles_in(batch: Sequence[Tiles]) -> int:
    """How many tiles the requests of a batch hold."""
    return sum(map(len, batch))


def check_same(card: ModelCard, model_id: str) -> None:
    """Raise `ModelReplaced` unless the card is that model's.

    While a server changes to another model, both have their parts under the same names.
    """
    if card.model_id != model_id:
        raise ModelReplaced(
            f"the model {model_id} was replaced by {card.model_id}", remedy="Ask again shortly."
        )


class Embedder:
    """Embeds tiles with one model."""

    def __init__(self, model: str, settings: ServeSettings) -> None:
        from microtome.models.registry import load_encoder

        self._encoder = load_encoder(model, EncoderOptions(allow_licences=settings.allow_licences))
        report_to_meter()
        self._embed.set_max_batch_size(settings.batching.tiles)
        self._embed.set_batch_wait_timeout_s(settings.batching.wait_ms / 1000)

    async def check(self, model_id: str) -> None:
        """Return where this is the model.

        Raises:
            ModelReplaced: it is another one.
        """
        check_same(self._encoder.card, model_id)

    async def encode(self, model_id: str, tiles: Tiles) -> Vectors:
        """Embed the tiles of one request, in a batch with others'.

        Args:
            model_id: the model that is meant.
            tiles: (N, H, W, 3) uint8.

        Returns:
            (N, D) float32 of unit length.

        Raises:
            ModelReplaced: this is another model.
        """
        check_same(self._encoder.card, model_id)
        vectors: Vectors = await self._embed(tiles)
        return vectors

    @serve.batch(batch_size_fn=tiles_in)  # type: ignore[untyped-decorator]
    async def _embed(self, requests: list[Tiles]) -> list[Vectors]:
        TALLY.observe(BATCH_TILES, tiles_in(requests))
        return await asyncio.to_thread(encode_together, self._encoder, requests)


def encode_together(encoder: Any, requests: Sequence[Tiles]) -> list[Vectors]:
    """The vectors of each request; tiles of one size go through the model together."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, tiles in enumerate(requests):
        alike[tiles.shape[1:]].append(place)
    vectors: dict[int, Vectors] = {}
    for places in alike.values():
        encoded = encoder.encode(np.concatenate([requests[place] for place in places]))
        ends = np.cumsum([len(requests[place]) for place in places])[:-1]
        vectors.update(zip(places, np.split(encoded, ends), strict=True))
    return [vectors[place] for place in range(len(requests))]
