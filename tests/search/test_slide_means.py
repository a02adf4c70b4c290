"""Mean vectors compared, against doing so one by one."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.atlas.mosaic import Mosaic, unit
from microtome.atlas.mosaics import MadeMosaics
from microtome.search.slide_bank import Bank, Part
from microtome.search.slide_means import by_mean
from microtome.search.slide_methods import Field, Tissue

DIM = 5


@settings(max_examples=60)
@given(
    parts=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    most=st.sampled_from([0, 2, 20]),
    filtered=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_groups_score_the_cosine_of_the_mean_of_all_their_tiles(parts, most, filtered, seed):
    draw = np.random.default_rng(seed)
    mosaics = [[drawn_mosaic(draw) for _ in range(count)] for count in parts]
    kept = [[some(draw, len(one), filtered) for one in part] for part in mosaics]
    flat, flat_kept = list(chain(*mosaics)), list(chain(*kept))
    groups = draw.integers(-1, most + 1, len(flat))
    tissue = Tissue.of(unit(draw.standard_normal((3, DIM))))
    scored = by_mean(tissue, Field(bank_of(mosaics, kept if filtered else None), groups, k=3))
    assert scored.groups.tolist() == sorted({*groups.tolist()} - {-1})
    for group, score in zip(scored.groups, scored.scores, strict=True):
        own = [flat[n].only(flat_kept[n]) for n in np.flatnonzero(groups == group)]
        total = sum(one.mean.astype(float) * one.tiles for one in own)
        assert score == pytest.approx(total @ tissue.mean / np.linalg.norm(total), abs=1e-5)
    assert scored.exact


def test_a_slide_whose_vectors_cancel_is_alike_to_nothing():
    there_and_back = np.array([[1, 0], [-1, 0]], np.float16)
    none = Mosaic.of(there_and_back, np.arange(2))
    tissue = Tissue.of(np.array([[1, 0]], np.float32))
    scored = by_mean(tissue, Field(bank_of([[none]]), np.zeros(1, np.int64), k=1))
    assert scored.scores.tolist() == [0]


def drawn_mosaic(draw):
    """Of one to four tiles that stand for some each."""
    count = int(draw.integers(1, 5))
    vectors = draw.standard_normal((count, DIM)).astype(np.float16)
    weights = draw.integers(1, 9, count).astype(np.int32)
    mean = np.average(unit(vectors), axis=0, weights=weights).astype(np.float16)
    return Mosaic(vectors, np.arange(count), weights, mean)


def some(draw, count, filtered):
    """Of so many at least one; all, unless it is filtered."""
    kept = draw.random(count) < (0.5 if filtered else 1)
    kept[draw.integers(count)] = True
    return kept


def bank_of(mosaics, kept=None):
    """Of parts with so many mosaics each."""
    parts = []
    for number, part in enumerate(mosaics):
        dim = part[0].vectors.shape[1] if part else DIM
        made = MadeMosaics({f"{number} {place}": one for place, one in enumerate(part)}, dim)
        own = None if kept is None else np.concatenate([np.empty(0, bool), *kept[number]])
        parts.append(Part(made, np.arange(len(part)), own))
    return Bank(tuple(parts), passing=0, bare=0)
