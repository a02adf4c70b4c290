"""Ranges that lie close become one request, and little that nobody wants moves with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.slides.tiff_ranges import MOST_WASTE, merged
from microtome.slides.tiff_source import ByteRange

RANGES = st.lists(st.builds(ByteRange, st.integers(0, 5000), st.integers(1, 400)), max_size=40)


def union_size(ranges: list[ByteRange]) -> int:
    return len({byte for one in ranges for byte in range(one.offset, one.offset + one.size)})


# ranges, the spans they become (offset, size) with at most 300 bytes a request
@pytest.mark.parametrize(
    ("ranges", "spans"),
    [
        ([], []),
        ([(10, 5)], [(10, 5)]),
        ([(100, 100), (0, 100)], [(0, 200)]),  # side by side, in whatever order
        ([(0, 100), (110, 100)], [(0, 210)]),  # 10 of 200 are unwanted: 5 %
        ([(0, 100), (111, 100)], [(0, 100), (111, 100)]),  # a byte more is too much
        ([(0, 100), (50, 100)], [(0, 150)]),  # overlapping
        ([(0, 100), (100, 100), (200, 101)], [(0, 200), (200, 101)]),  # more than a request holds
        ([(0, 500), (500, 500)], [(0, 500), (500, 500)]),  # each more than a request holds
        ([(7, 9), (7, 9)], [(7, 9)]),  # two tiles with the same bytes
    ],
)
def test_merging(ranges, spans):
    runs = merged([ByteRange(*one) for one in ranges], request_bytes=300)
    assert [run.span for run in runs] == spans


@given(RANGES, st.integers(1, 2000))
def test_everything_wanted_comes_once_with_little_else(ranges, request_bytes):
    runs = merged(ranges, request_bytes)
    assert sorted(one for run in runs for one in run.ranges) == sorted(set(ranges))
    for span, wanted in runs:
        assert span.offset == wanted[0].offset
        assert all(one.offset + one.size <= span.offset + span.size for one in wanted)
        assert span.size <= (1 + MOST_WASTE) * union_size(wanted)
        assert span.size <= request_bytes or len(wanted) == 1
