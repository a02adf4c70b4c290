"""Slides read where they lie in S3, over real HTTP: equal pixels, few bytes, and every bad day."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from microtome.config import GridSettings, MppSettings
from microtome.errors import SlideChanged, SlideError, SlideUnreadable
from microtome.slides.opening import open_slide, slide_files_of
from microtome.slides.s3_object import Patience, S3Object
from microtome.slides.slide import SlideReader, SlideRef
from microtome.slides.tiff_opening import open_tiff
from microtome.slides.tiff_reader import TiffReader
from microtome.slides.tiff_remote import KEPT_BYTES, RemoteObject
from microtome.slides.tiff_source import ByteRange
from microtome.tiles.cut import TilePlan, cut_tiles, plan_tiles
from microtome.tiles.thumbnail import thumbnail
from support.faulty_store import DENIED, SLOW_DOWN, Passed
from support.glass import write_glass_with_tissue
from support.object_store import ObjectStore

GRID = GridSettings(mpp=0.5, tile_px=224)
PATIENT = Patience(attempts=3, first_pause_s=0.01)
STUCK_S = 1.5
HASTY = replace(PATIENT, attempt_s=STUCK_S)
REGION = (300, 200, 0, 700, 600)

pytestmark = pytest.mark.timeout(120)


@dataclass
class Traffic:
    """What went through the proxy: every request is counted, then `fault` has its way."""

    fault: Callable[[Passed], bool] = lambda _: False
    latency_s: float = 0.0
    ranges: list[tuple[int, int]] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Passed) -> bool:
        if not request.is_content:
            return False
        with self.lock:
            asked = request.headers["Range"]
            start, end = asked.removeprefix("bytes=").split("-")
            self.ranges.append((int(start), int(end) + 1))
            self.times[asked] += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            time.sleep(self.latency_s)
            return self.fault(request)
        finally:
            with self.lock:
                self.at_once -= 1

    def is_first(self, request: Passed) -> bool:
        """Whether this range is asked for the first time."""
        return self.times[request.headers["Range"]] == 1

    @property
    def bytes_asked(self) -> int:
        return sum(end - start for start, end in self.ranges)


@pytest.fixture(scope="session")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glass_with_tissue(tmp_path_factory.mktemp("far") / "made.svs")


@pytest.fixture
def uri(s3: ObjectStore, slide_path: Path) -> str:
    return f"{s3.bucket({'made.svs': slide_path})}/made.svs"


def opened(uri: str, patience: Patience = PATIENT, kept_bytes: int = KEPT_BYTES) -> TiffReader:
    files = slide_files_of(SlideRef("made", uri))
    ranges = S3Object(uri, "made", files.etag, patience)
    source = RemoteObject("made", files.size_bytes, ranges, kept_bytes)
    return open_tiff(files, source, MppSettings())


def local(path: Path) -> SlideReader:
    return open_slide(SlideRef("made", str(path)), MppSettings())


def digests(reader: SlideReader, plan: TilePlan, threads: int = 4) -> list[str]:
    return [
        hashlib.sha256(tile.tobytes()).hexdigest()
        for batch in cut_tiles(reader, plan, batch_size=16, threads=threads)
        for tile in batch.pixels
    ]


def tile_bytes(path: Path, plan: TilePlan) -> int:
    """Bytes of all tiles of level 0 that the plan's tiles touch."""
    with local(path) as reader:
        assert isinstance(reader, TiffReader)
        image, side = reader._levels[0], plan.read.read_px
    touched = {
        row * image.columns + column
        for x, y in plan.corners.tolist()
        for row in range(y // 256, (y + side - 1) // 256 + 1)
        for column in range(x // 256, (x + side - 1) // 256 + 1)
    }
    return int(image.byte_counts[sorted(touched)].sum())


def test_a_slide_in_a_bucket_is_read_where_it_lies(proxy, uri, slide_path):
    with open_slide(SlideRef("made", uri), MppSettings()) as far, local(slide_path) as near:
        assert far.slide.reader == near.slide.reader == "tiff"
        assert far.slide.content_id == near.slide.content_id
        assert np.array_equal(far.read_region(*REGION), near.read_region(*REGION))


def test_all_tiles_are_equal_and_few_bytes_and_requests_move(proxy, uri, slide_path):
    with local(slide_path) as near:
        plan = plan_tiles(near, GRID)
        expected = digests(near, plan)
    with opened(uri) as far:
        proxy.fault = traffic = Traffic()
        assert np.array_equal(plan_tiles(far, GRID).corners, plan.corners)
        assert len(traffic.ranges) <= 2  # the level of the mask
        before = far.bytes_read, len(traffic.ranges)
        thumbnail(far)
        assert (far.bytes_read, len(traffic.ranges)) == before
        assert digests(far, plan) == expected
        moved = far.bytes_read - before[0]
        assert moved <= 1.1 * tile_bytes(slide_path, plan)
        assert len(traffic.ranges) - before[1] <= len(plan) / 4
        assert far.bytes_read < 0.6 * far.slide.size_bytes
    assert max(traffic.times.values()) == 1


def test_a_header_takes_few_requests(proxy, uri):
    files = slide_files_of(SlideRef("made", uri))
    proxy.fault = traffic = Traffic()
    source = RemoteObject("made", files.size_bytes, S3Object(uri, "made", files.etag))
    with open_tiff(files, source, MppSettings()) as reader:
        assert len(traffic.ranges) <= 2 * len(reader.slide.levels)
        assert reader.bytes_read == traffic.bytes_asked


def test_what_is_brought_ahead_is_still_there_when_it_is_read(proxy, uri, slide_path):
    """Room for a quarter of the tiles' bytes: only what two blocks share may move twice."""
    with local(slide_path) as near:
        plan = plan_tiles(near, GRID)
        expected = digests(near, plan)
    with opened(uri, kept_bytes=tile_bytes(slide_path, plan) // 4) as far:
        proxy.fault = traffic = Traffic(latency_s=0.01)
        assert digests(far, plan, threads=1) == expected
        assert traffic.bytes_asked <= 1.2 * tile_bytes(slide_path, plan)


def test_requests_overlap(proxy, uri, slide_path):
    together = threading.Event()

    def wait_for_three_others(request: Passed) -> bool:
        if traffic.at_once > 3:
            together.set()
        together.wait(5)
        return False

    with opened(uri) as far:
        plan = plan_tiles(far, GRID)
        proxy.fault = traffic = Traffic(wait_for_three_others)
        digests(far, plan, threads=1)
        assert together.is_set()


def slow_down(request: Passed) -> bool:
    return request.refuse(503, SLOW_DOWN)


def internal_error(request: Passed) -> bool:
    return request.refuse(500, b"<Error><Code>InternalError</Code></Error>")


def reset(request: Passed) -> bool:
    request.close_connection = True
    return True


def cut_short(request: Passed) -> bool:
    return request.forward(share=0.5)


def stuck(request: Passed) -> bool:
    time.sleep(STUCK_S + 0.5)
    return reset(request)


def whole_object(request: Passed) -> bool:
    del request.headers["Range"]
    return request.forward()


PASSING = [slow_down, internal_error, reset, cut_short, stuck, whole_object]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.__name__)
def test_what_passes_is_healed(proxy, uri, slide_path, fault):
    patience = HASTY if fault is stuck else PATIENT
    with opened(uri, patience) as far, local(slide_path) as near:
        traffic = Traffic(lambda request: traffic.is_first(request) and fault(request))
        proxy.fault = traffic
        assert np.array_equal(far.read_region(*REGION), near.read_region(*REGION))
        assert min(traffic.times.values()) > 1


# what the store does again and again, the words of the failure
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (slow_down, "its store said SlowDown 3 times in a row"),
        (reset, "its store said ConnectionClosedError 3 times in a row"),
        (cut_short, "3 times in a row"),
        (stuck, "its store said nothing in time 3 times in a row"),
        (whole_object, "its store said another number of bytes 3 times in a row"),
    ],
    ids=["slow down", "reset", "cut short", "stuck", "whole object"],
)
def test_what_never_passes_is_given_up(proxy, uri, fault, words):
    with opened(uri, HASTY if fault is stuck else PATIENT) as far:
        proxy.fault = Traffic(fault)
        with pytest.raises(SlideUnreadable, match=words) as raised:
            far.read_region(*REGION)
        assert f"made ({uri})" in str(raised.value)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, DENIED, "can't be read: AccessDenied"),
        (404, b"<Error><Code>NoSuchKey</Code></Error>", "is gone from its store: NoSuchKey"),
    ],
)
def test_a_refusal_is_not_tried_again(proxy, uri, status, body, words):
    with opened(uri) as far:
        proxy.fault = traffic = Traffic(lambda request: request.refuse(status, body))
        with pytest.raises(SlideUnreadable, match=words) as raised:
            far.read_region(*REGION)
        assert f"made ({uri})" in str(raised.value)
        assert "test-secret" not in str(raised.value)
        assert set(traffic.times.values()) == {1}


def test_after_a_failure_the_same_region_can_be_read(proxy, uri, slide_path):
    """At once: a failed read leaves no request behind that the next would wait for and share."""
    numbers = itertools.count()

    def refuse_one_before_the_others(request: Passed) -> bool:
        if next(numbers):
            time.sleep(0.2)
        return request.refuse(403, DENIED)

    with opened(uri) as far, local(slide_path) as near:
        proxy.fault = refused = Traffic(refuse_one_before_the_others)
        with pytest.raises(SlideUnreadable):
            far.read_region(*REGION)
        assert len(refused.ranges) > 1
        proxy.fault = Traffic()
        assert np.array_equal(far.read_region(*REGION), near.read_region(*REGION))


def without_if_match(request: Passed) -> bool:
    del request.headers["If-Match"]
    return False


@pytest.mark.parametrize("fault", [lambda _: False, without_if_match], ids=["knows", "ignores"])
def test_an_object_that_changes_is_not_mixed(proxy, uri, s3, slide_path, fault):
    """Whether or not the store knows If-Match."""
    with opened(uri) as far:
        s3.put(uri, slide_path.read_bytes()[:-1] + b"x")
        proxy.fault = Traffic(fault)
        with pytest.raises(SlideChanged, match=r"made \(s3://.*\) changed while it was read"):
            far.read_region(*REGION)


def test_an_object_that_changes_while_it_is_opened_is_not_opened(proxy, uri, s3, slide_path):
    numbers = itertools.count()

    def change_after_hashing(request: Passed) -> bool:
        if "If-Match" in request.headers and not next(numbers):
            s3.put(uri, slide_path.read_bytes()[:-1] + b"x")
        return False

    proxy.fault = change_after_hashing
    with pytest.raises(SlideChanged):
        open_slide(SlideRef("made", uri), MppSettings())


@pytest.mark.parametrize("threads", [1, 3])
def test_a_store_that_fails_half_way_ends_the_cutting(proxy, uri, threads):
    with opened(uri) as far:
        plan = plan_tiles(far, GRID)
        numbers = itertools.count()
        proxy.fault = Traffic(lambda request: next(numbers) > 2 and request.refuse(403, DENIED))
        with pytest.raises(SlideError, match="AccessDenied"):
            digests(far, plan, threads)


def test_closing_gives_up_what_is_under_way(proxy, uri):
    files = slide_files_of(SlideRef("made", uri))
    ranges = S3Object(uri, "made", files.etag, PATIENT)
    far = RemoteObject("made", files.size_bytes, ranges)
    asked, closed = threading.Event(), threading.Event()
    proxy.fault = Traffic(lambda _: asked.set() or not closed.wait(60))
    far.bring([ByteRange(0, 100_000)])
    assert asked.wait(60)
    far.close()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), ranges.loop).result(60)  # it knows, too
    closed.set()
    time.sleep(0.2)
    assert far.bytes_read == 0
    with pytest.raises(ValueError, match="closed"):
        far.read([ByteRange(0, 100_000)])


def test_a_reader_that_was_closed_early_reads_no_more(proxy, uri):
    far = opened(uri)
    batches = cut_tiles(far, plan_tiles(far, GRID), batch_size=4, threads=2)
    next(batches)
    batches.close()
    far.close()
    with pytest.raises(ValueError, match="closed"):
        far.read_region(*REGION)
