"""Weights that a network lacks after timm has loaded it: timm only logs them."""

from __future__ import annotations

import logging
from typing import Self

from torch import nn

_BUILDER = logging.getLogger("timm.models._builder")
_MISSING, _SURPLUS = "Missing keys", "Unexpected keys"


class KeysNoted(logging.Filter):
    """While entered, takes note of the names that timm logs, which are then not printed.

    A network cut into scales is loaded leniently. What is surplus, or missing of the classifier
    that is cut off, is right then; anything else missing would silently stay random.
    """

    missing: tuple[str, ...] = ()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep names of missing weights; let through what is none of ours."""
        message = record.getMessage()
        if message.startswith(_MISSING):
            self.missing = tuple(message.partition("(")[2].partition(")")[0].split(", "))
        ours = message.startswith((_MISSING, _SURPLUS))
        return not ours and record.levelno >= self._effective_level

    def gaps_in(self, module: nn.Module) -> list[str]:
        """Missing weights that the module has; cutting may have put `_` for a dot in its names."""
        own = tuple(f".{name}".replace("_", ".") for name in module.state_dict())
        return [
            name
            for name in self.missing
            if any(key.endswith(f".{name}".replace("_", ".")) for key in own)
        ]

    def __enter__(self) -> Self:
        self._level, self._effective_level = _BUILDER.level, _BUILDER.getEffectiveLevel()
        _BUILDER.setLevel(logging.INFO)
        _BUILDER.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        _BUILDER.removeFilter(self)
        _BUILDER.setLevel(self._level)
