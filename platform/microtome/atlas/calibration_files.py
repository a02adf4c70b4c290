"""Where calibrations lie that `microtome maintain` made: `_calibration/<model id>.json`.

They are derived from the tiles and may be deleted at any time. Scores are all they hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from microtome.atlas.objects import objects
from microtome.errors import AtlasWriteFailed

FOLDER: Final = "_calibration"
FORMAT: Final = 1
MOST_CHANGED: Final = 0.1  # of the tiles; an atlas that grew or shrank more is to be sampled anew


@dataclass(frozen=True, slots=True)
class Stored:
    """What a stored calibration says.

    Attributes:
        tiles_version: of `tiles` that it was made from.
        rows: that `tiles` had then.
        scores: by the column whose values are the groups.
        format: of the file.
    """

    tiles_version: int
    rows: int
    scores: Mapping[str, Sequence[float]]
    format: int = FORMAT

    def __post_init__(self) -> None:
        for scores in self.scores.values():
            if not np.isfinite(np.asarray(scores, np.float32)).all():
                raise ValueError("scores that are no numbers")

    def fits(self, rows: int) -> bool:
        """Whether an atlas that has so many tiles now is still much the same."""
        return abs(rows - self.rows) <= MOST_CHANGED * self.rows


def read_stored(uri: str, model_id: str) -> Stored | None:
    """The stored calibration of a model; None where there is none, or none that can be read."""
    try:
        text = objects(uri, FOLDER, "calibrations").get(f"{model_id}.json")
        facts: dict[str, Any] = json.loads(text) if text else {}
        return Stored(**facts) if facts.get("format") == FORMAT else None
    except (AtlasWriteFailed, ValueError, TypeError, AttributeError):
        return None


def write_stored(uri: str, model_id: str, stored: Stored) -> None:
    """Store a calibration over the one before.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    data = json.dumps(asdict(stored)).encode()
    objects(uri, FOLDER, "calibrations").put(f"{model_id}.json", data)


def drop_stored(uri: str, model_id: str) -> None:
    """Remove the stored calibration of a model, if there is one.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    objects(uri, FOLDER, "calibrations").delete(f"{model_id}.json")
