"""Licences of weights: which may be used without asking, and what weights made of several carry."""

from __future__ import annotations

from collections.abc import Collection

from microtome.errors import LicenceRefused

PERMISSIVE_LICENCES = frozenset(
    {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "CC0-1.0", "CC-BY-4.0"}
)
UNKNOWN = "unknown"
NO_CLAIM = "CC0-1.0"
"""Of numbers that nobody trained."""

_SPDX = {name.lower(): name for name in PERMISSIVE_LICENCES}
_AND = " AND "


def spdx_name(licence: object) -> str:
    """A licence as its holder writes it, in SPDX spelling where it is known; else in lower case."""
    name = str(licence or UNKNOWN).lower()
    return _SPDX.get(name, name)


def joint_licence(*licences: str) -> str:
    """The licence of weights made of parts, `A AND B` as in SPDX; parts without a claim add none.

    A checkpoint holds its frozen backbone too, so the backbone's licence is on its card.
    """
    parts = {part for licence in licences for part in licence.split(_AND)}
    return _AND.join(sorted(parts - {NO_CLAIM}, key=str.lower)) or NO_CLAIM


def check_licence(name: str, licence: str, allowed: Collection[str]) -> None:
    """Raise `LicenceRefused` unless each part is permissive or was allowed by its name."""
    accepted = {*_SPDX, *(item.lower() for item in allowed)}
    refused = [part for part in licence.split(_AND) if part.lower() not in accepted]
    if licence.lower() not in accepted and refused:
        raise LicenceRefused(
            f"the weights of {name} are under the licence {licence!r}, which isn't permissive",
            remedy=f"If it permits your use, allow it by name: {', '.join(refused)}.",
        )
