"""A running average of the weights (EMA), which generalises better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential average of a module's trained weights and buffers.

    Args:
        module: whose; a part that isn't trained is left out.
        decay: share of the old average that stays at each update. Early on less does, (1 + n) /
            (10 + n) after n updates, so that the first random weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._live = trained_state(module)
        self.decay = decay
        self.updates = 0
        self.state = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights as they now are into the average."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, average in self.state.items():
            if average.is_floating_point():
                average.lerp_(self._live[name], 1 - keep)
            else:
                average.copy_(self._live[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the module hold the average for a while."""
        own = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        copy_into(self._live, self.state)
        try:
            yield
        finally:
            copy_into(self._live, own)


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The live weights and buffers by name, but for those of frozen backbones."""
    frozen = tuple(
        f"{name}."
        for name, part in module.named_modules()
        if name and getattr(part, "frozen", False)
    )
    return {
        name: tensor
        for name, tensor in module.state_dict(keep_vars=True).items()
        if not (frozen and name.startswith(frozen))
    }


@torch.no_grad()
def copy_into(live: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Overwrite live tensors by name."""
    for name, tensor in live.items():
        tensor.copy_(values[name])


def shared_from_first(module: nn.Module) -> None:
    """Give every worker the first one's buffers.

    Between forward passes each worker's batch norms hold statistics of its own images.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)
