"""A header's many small values come in few reads, and are what the file holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.errors import SlideTruncated
from microtome.slides.tiff_headers import HeaderPages
from microtome.slides.tiff_source import ByteRange

CONTENT = np.random.default_rng(3).bytes(1050)


class Counted:
    """A source in memory that remembers what it was asked for."""

    name, size, bytes_read = "counted", len(CONTENT), 0

    def __init__(self) -> None:
        self.asked: list[ByteRange] = []

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        self.asked += ranges
        return [CONTENT[one.offset : one.offset + one.size] for one in ranges]

    def close(self) -> None:
        pass


@given(st.lists(st.tuples(st.integers(0, 1050), st.integers(0, 1050)).map(sorted)))
def test_every_range_is_what_the_file_holds_and_comes_without_a_read_again(bounds):
    source = Counted()
    pages = HeaderPages(source, 100)
    ranges = [ByteRange(start, end - start) for start, end in bounds]
    assert pages.read(ranges) == [CONTENT[start:end] for start, end in bounds]
    source.asked.clear()
    assert pages.read(ranges) == [CONTENT[start:end] for start, end in bounds]
    assert not source.asked


# ranges, the reads in pages of 100 bytes
@pytest.mark.parametrize(
    ("ranges", "reads"),
    [
        ([(250, 10), (260, 5), (299, 1)], [(200, 100)]),
        ([(199, 2)], [(100, 200)]),
        ([(1040, 10)], [(1000, 50)]),  # the last page is short
        ([(250, 1), (150, 300)], [(200, 100), (100, 400)]),  # one read, round what is here
    ],
)
def test_reads_are_whole_pages(ranges, reads):
    source = Counted()
    HeaderPages(source, 100).read([ByteRange(*one) for one in ranges])
    assert source.asked == reads


def test_a_range_past_the_end_is_a_truncated_slide():
    with pytest.raises(SlideTruncated, match="counted has 1050 bytes"):
        HeaderPages(Counted(), 100).read([ByteRange(1000, 51)])
