"""How well look-alikes are found among images that were not learnt from, their own group left out.

For each image all validation images of other groups (slides, patients) are ranked by cosine.

- R@1: share of images whose nearest one is of their class.
- mAP@R: the mean over images of (1/R) Σ P(i)·rel(i) for i = 1 … R, where R images of the class are
  there to be found, P(i) is the share of right ones among the first i, and rel(i) is 1 where the
  i-th is right (Musgrave et al., "A Metric Learning Reality Check", arXiv 2003.08505, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 1024  # queries ranked at once


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
    """
    names = [f"\0{i}" if group is None else group for i, group in enumerate(groups)]
    group_ids = torch.from_numpy(np.unique(names, return_inverse=True)[1]).to(vectors.device)
    classes = torch.from_numpy(labels).to(vectors.device)
    right_first, precision, asked = [], [], []
    for start in range(0, len(vectors), BLOCK):
        rows = slice(start, start + BLOCK)
        similarity = vectors[rows] @ vectors.T
        own = group_ids[rows, None] == group_ids[None]
        right = (classes[rows, None] == classes[None]) & ~own
        order = similarity.masked_fill(own, -torch.inf).argsort(dim=1, descending=True, stable=True)
        ranked = right.gather(1, order).float()
        to_find = right.sum(dim=1)
        asked.append(to_find > 0)
        right_first.append(ranked[:, 0])
        precision.append(_average_precision(ranked, to_find))
    counted = torch.cat(asked)
    if not counted.any():
        return Retrieval(0.0, 0.0, 0, 0)
    return Retrieval(
        float(torch.cat(right_first)[counted].mean()),
        float(torch.cat(precision)[counted].mean()),
        int(counted.sum()),
        len(np.unique(labels[counted.cpu().numpy()])),
    )


def _average_precision(ranked: Tensor, to_find: Tensor) -> Tensor:
    """AP@R of each row of (Q, N) rightness by rank, R (Q,) of which are right."""
    ranks = torch.arange(1, ranked.shape[1] + 1, device=ranked.device)
    within = ranked * (ranks <= to_find[:, None])
    precision = within.cumsum(dim=1) / ranks
    average: Tensor = (precision * within).sum(dim=1) / to_find.clamp(min=1)
    return average
