"""How well look-alikes are found among images that were not learnt from, their own group left out.

For each image all validation images of other groups (slides, patients) are ranked by cosine, and
`R@1` and `mAP@R` are taken as `microtome.evaluation.metrics` defines them. Images that have nothing
of their class to find don't count here: how many there are is the set's doing, not the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from microtome.errors import NothingToFind, TrainingDiverged, VectorsInvalid
from microtome.evaluation.judging import Labelled, judge_vectors
from microtome.evaluation.left_out import LeftOut


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What a ranking is worth.

    Attributes:
        recall_at_1: see the module's docstring.
        map_at_r: see the module's docstring.
        queries: images that had something to find; the others don't count.
        classes: of these.
    """

    recall_at_1: float
    map_at_r: float
    queries: int
    classes: int

    def to_metrics(self) -> dict[str, float]:
        """As metrics by name; no ranks where nothing was to be found."""
        if not self.queries:
            return {"queries": 0.0}
        return {"R@1": self.recall_at_1, "mAP@R": self.map_at_r, "queries": float(self.queries)}


def retrieval(
    vectors: Tensor, labels: NDArray[np.int64], groups: Sequence[str | None]
) -> Retrieval:
    """Rank every image against those of other groups.

    Args:
        vectors: (N, D) float, of unit length.
        labels: (N,) class.
        groups: slide or patient of each; None is a group of its own.

    Raises:
        TrainingDiverged: vectors hold NaN or infinity.
    """
    both = Labelled(vectors.cpu().numpy(), labels)
    try:
        scores = judge_vectors(both, both, [1], left_out=LeftOut.within(groups), depth=1).scores
    except NothingToFind:
        return Retrieval(0.0, 0.0, 0, 0)
    except VectorsInvalid as error:
        raise TrainingDiverged(
            f"what the model makes of the validation images isn't finite: {error.message}",
            remedy="Go on from the last good checkpoint with --resume and a lower optimiser.lr or "
            "fit.precision=fp32.",
        ) from error
    counted = scores.to_find > 0
    return Retrieval(
        float(scores.per_query["R@1"][counted].mean()),
        scores.values["mAP@R"],
        int(counted.sum()),
        len(np.unique(labels[counted])),
    )
