"""Who is left out of whose answers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from microtome.evaluation.left_out import LeftOut, findable

GROUPS = st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=8)


def barred(left_out: LeftOut) -> list[list[bool]]:
    return (left_out.queries[:, None] == left_out.gallery).tolist()


@given(GROUPS)
def test_within_a_set_an_image_without_a_group_leaves_out_itself(groups):
    left_out = LeftOut.within(groups)
    n = range(len(groups))
    own = [[i == j or (groups[i] is not None and groups[i] == groups[j]) for j in n] for i in n]
    assert barred(left_out) == own


NUMBERS = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(np.array)


@given(st.data(), NUMBERS, NUMBERS)
def test_what_may_be_found_is_counted(data, queries, gallery):
    left_out = data.draw(st.sampled_from([None, LeftOut(queries, gallery)]))
    asked, found = (
        np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(x), max_size=len(x))))
        for x in (queries, gallery)
    )
    own = barred(left_out) if left_out else [[False] * len(gallery)] * len(queries)
    counts = [
        sum(label == other and not out for other, out in zip(found, row, strict=True))
        for label, row in zip(asked, own, strict=True)
    ]
    assert findable(asked, found, left_out).tolist() == counts
