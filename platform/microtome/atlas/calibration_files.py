"""Where calibrations lie that `microtome maintain` made: `_calibration/<model id>.json`.

They are derived from the tiles and may be deleted at any time. They hold scores, and hashes of some
slides by which it is told whether the atlas is still much the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np

from microtome.atlas.objects import objects
from microtome.errors import AtlasWriteFailed

FOLDER: Final = "_calibration"
FORMAT: Final = 2
MOST_CHANGED: Final = 0.1
"""Share of the tiles, or slides, beyond which an atlas that changed is to be sampled anew."""
SKETCHED: Final = 512  # slides by which it is told; of so many the share is within about 0.03


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a calibration rests on.

    Attributes:
        vectors: how many tiles have a vector.
        slides: hashes of slides with their cases; the smallest `SKETCHED` of all, ascending.
    """

    vectors: int
    slides: Sequence[str]

    @classmethod
    def of(cls, vectors: int, slides: Iterable[tuple[str, str | None]]) -> Self:
        """From how many vectors there are, and the id and case of each slide that has tiles."""
        texts = (json.dumps(slide) for slide in slides)
        hashes = sorted(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)
        return cls(vectors, hashes[:SKETCHED])

    def alike(self, other: Self) -> bool:
        """Whether both are much the same: of the slides, by a sketch of both sets together.

        Where a share m of the slides is another's, (1 − m) / (1 + m) of all that are in either are
        in both, which is estimated among the smallest hashes of either (Broder, "On the resemblance
        and containment of documents", 1997).
        """
        either = sorted({*self.slides, *other.slides})[:SKETCHED]
        both = set(self.slides).intersection(other.slides, either)
        changed = abs(self.vectors - other.vectors) / max(1, self.vectors, other.vectors)
        least = (1 - MOST_CHANGED) / (1 + MOST_CHANGED)
        return changed <= MOST_CHANGED and len(both) >= least * len(either)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a stored calibration says.

    Attributes:
        tiles_version: of `tiles` that it was made from.
        grounds: what the atlas was then.
        scores: by the column whose values are the groups.
        format: of the file.
    """

    tiles_version: int
    grounds: Grounds
    scores: Mapping[str, Sequence[float]]
    format: int = FORMAT

    def __post_init__(self) -> None:
        for scores in self.scores.values():
            if not np.isfinite(np.asarray(scores, np.float32)).all():
                raise ValueError("scores that are no numbers")


def read_stored(uri: str, model_id: str) -> Stored | None:
    """The stored calibration of a model; None where there is none, or none that can be read."""
    try:
        text = objects(uri, FOLDER, "calibrations").get(f"{model_id}.json")
        facts: dict[str, Any] = json.loads(text) if text else {}
        if facts.get("format") != FORMAT:
            return None
        return Stored(**facts | {"grounds": Grounds(**facts["grounds"])})
    except (AtlasWriteFailed, ValueError, TypeError, AttributeError, KeyError):
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
