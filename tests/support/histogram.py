"""What a model must beat: colour alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 8


def histograms(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8 × 8 × 8 colour histograms whose dot product is their cosine after the square root."""
    codes = (pixels // (256 // BINS)).astype(np.int64) @ np.array([BINS * BINS, BINS, 1])
    roots = np.sqrt([np.bincount(code.ravel(), minlength=BINS**3) for code in codes])
    return (roots / np.linalg.norm(roots, axis=1, keepdims=True)).astype(np.float32)
