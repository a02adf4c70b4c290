"""One row of a table for a hit: what it says itself, and beside it the manifest's columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def beside(own: Collection[str], metadata: Mapping[str, Value]) -> dict[str, Value]:
    """The manifest's columns as they stand in one row with a hit's own.

    A name that is among `own` becomes `manifest.NAME`, which no manifest's column can have.
    """
    return {f"manifest.{name}" if name in own else name: metadata[name] for name in metadata}
