"""Let torchvision and timm be imported without torch's compiler, which takes as long as torch.

torchvision imports it for a question that one function of its detection layers asks, timm for
methods that it shall leave alone. Both can wait until they are called, which nothing here does:
1.4 s of processor time less for each command and each worker that embeds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch._compile import _disable_dynamo

UTILITIES = "torch._dynamo.utils"

_compiler: Any = torch.compiler


@contextmanager
def compiler_when_used() -> Iterator[None]:
    """What is imported in the block has the compiler imported when it calls it."""
    if "torch._dynamo" in sys.modules:
        yield
        return
    disable = _compiler.disable
    _compiler.disable = _disable_dynamo  # torch's own, for where it must not import it at once
    sys.modules[UTILITIES] = stand_in = _StandIn(UTILITIES)
    try:
        yield
    finally:
        _compiler.disable = disable
        stand_in.leave()


class _StandIn(ModuleType):
    """Has the one function that torchvision wants; for anything else the module itself comes."""

    def is_compile_supported(self, device: Any) -> Any:
        return self._real().is_compile_supported(device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks for some that a module may lack
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> Any:
        self.leave()
        return import_module(UTILITIES)

    def leave(self) -> None:
        if sys.modules.get(UTILITIES) is self:
            del sys.modules[UTILITIES]
