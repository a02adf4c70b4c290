"""The model behind the embedder as an encoder like any other, for whatever searches."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from microtome.models.card import ModelCard
from microtome_serve.calling import Calls


class RemoteEncoder:
    """Embeds through an `Embedder`; to be used from threads, not from a loop.

    Args:
        embedder: the deployment.
        timeout_s: after which an answer is given up.
    """

    def __init__(self, embedder: Calls, timeout_s: float) -> None:
        self._embedder = embedder
        self._timeout_s = timeout_s

    @cached_property
    def card(self) -> ModelCard:
        """What it is; asked for once.

        Raises:
            DeadlinePassed: the embedder isn't there.
        """
        card: ModelCard = self._embedder.card.result(timeout_s=self._timeout_s)
        return card

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed tiles: see `Encoder.encode`.

        Raises:
            DeadlinePassed: no answer came in time.
            BackPressureError: too many wait already.
        """
        vectors: NDArray[np.float32] = self._embedder.encode.result(
            pixels, timeout_s=self._timeout_s
        )
        return vectors
