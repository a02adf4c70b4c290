"""The tables in which vectors wait for their column, by name; what they hold is in `staged`."""

from __future__ import annotations

from microtome.atlas.objects import objects

FOLDER = "_embed"


def staging_table(model_id: str) -> str:
    """Name of the table in which a model's vectors wait."""
    return f"{FOLDER}/{model_id}"


def staged_models(uri: str) -> list[str]:
    """Ids of the models that have such a table, or files of one.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    names = objects(uri, FOLDER, "vectors that wait").names()
    return sorted(name.removesuffix(".lance") for name in names if name.endswith(".lance"))


def discard_staged(uri: str, model_id: str) -> None:
    """Remove the vectors of a model that wait; without a need for them, and to forget.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    objects(uri, f"{staging_table(model_id)}.lance", "vectors that wait").clear()
