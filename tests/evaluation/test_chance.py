from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from microtome.evaluation.chance import recall_by_chance


# to find, may be found, k, chance
@pytest.mark.parametrize(
    ("to_find", "eligible", "k", "chance"),
    [
        (1, 4, 1, 1 / 4),
        (1, 4, 2, 1 / 2),
        (2, 4, 2, 1 - 1 / 6),
        (3, 4, 2, 1.0),  # two must hold one of three
        (0, 4, 2, 0.0),
        (1, 2, 9, 1.0),  # k larger than there are
        (0, 0, 3, 0.0),
    ],
)
def test_chance_by_hand(to_find: int, eligible: int, k: int, chance: float) -> None:
    found = recall_by_chance(np.array([to_find]), np.array([eligible]), [k])
    assert found == {f"R@{k}": pytest.approx(chance)}


@given(
    st.lists(
        st.integers(1, 300).flatmap(lambda e: st.tuples(st.integers(0, e), st.just(e))),
        min_size=1,
        max_size=9,
    ),
    st.sets(st.integers(1, 40), min_size=1),
)
def test_chance_is_the_hypergeometric_distribution_s(
    counts: list[tuple[int, int]], ks: set[int]
) -> None:
    to_find, eligible = np.array(counts).T
    found = recall_by_chance(to_find, eligible, ks)
    for k in ks:
        none = hypergeom.pmf(0, eligible, to_find, np.minimum(k, eligible))
        assert found[f"R@{k}"] == pytest.approx(float(np.mean(1 - none)), abs=1e-9)
