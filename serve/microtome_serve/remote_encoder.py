"""The model behind the embedder as an encoder like any other, for whatever searches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microtome.models.card import ModelCard
from microtome.search import patience
from microtome_serve.calling import Calls


class RemoteEncoder:
    """Embeds through an `Embedder`; to be used from threads, not from a loop.

    Args:
        embedder: the deployment.
        card: of its model. It is the one of the settings, not the embedder's own: vectors of
            another model are never taken for this one's.
        timeout_s: after which an answer is given up, whatever patience there is.
    """

    def __init__(self, embedder: Calls, card: ModelCard, timeout_s: float) -> None:
        self.card = card
        self._embedder = embedder
        self._timeout_s = timeout_s

    async def ready(self) -> None:
        """Return once it can embed; from a loop.

        Raises:
            ModelReplaced: the embedder has another model.
        """
        await self._embedder.check.remote(self.card.model_id)

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed tiles: see `Encoder.encode`.

        Raises:
            DeadlinePassed: no answer came in time.
            Overloaded: too many wait already.
            ModelReplaced: the embedder has another model.
        """
        timeout_s = min(self._timeout_s, patience.left_s())
        vectors: NDArray[np.float32] = self._embedder.encode.result(
            self.card.model_id, pixels, timeout_s=timeout_s
        )
        return vectors
