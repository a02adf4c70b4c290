"""How people name a run: by its id, or by how it begins."""

from __future__ import annotations

from collections.abc import Collection

from microtome.errors import AtlasVersionNotFound

LEAST_CHARACTERS = 8  # the date: all ids of this century begin with the same two
SHOWN = 5


def run_meant(uri: str, name: str, run_ids: Collection[str]) -> str | None:
    """The run that a name means: that of this id, else the one whose id begins so, else None.

    Raises:
        AtlasVersionNotFound: it begins the ids of several.
    """
    if name in run_ids:
        return name
    if len(name) < LEAST_CHARACTERS:
        return None
    begun = sorted(run_id for run_id in run_ids if run_id.startswith(name))
    if len(begun) > 1:
        raise AtlasVersionNotFound(
            f"{name!r} begins the ids of {len(begun)} runs of the atlas {uri}: {shortened(begun)}",
            remedy="Write more of the id.",
        )
    return begun[0] if begun else None


def shortened(run_ids: Collection[str]) -> str:
    """The first few of some ids, and how many more there are."""
    named = list(run_ids)
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return ", ".join(named[:SHOWN]) + more
