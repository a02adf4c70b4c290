"""What the cache of staged slides promises, to one process and to many."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microtome.errors import SettingError, SlideChanged, SlideUnreadable
from microtome.slides.opening import slide_files_of
from microtome.slides.slide import SlideRef
from microtome.slides.staging import LocalSlide, StagingSettings, localised
from microtome.slides.staging_cache import StagingCache
from microtome.slides.staging_entry import Fetch
from support.faulty_store import DENIED, SLOW_DOWN, Fault, FaultyStore, Passed, faults_before
from support.object_store import ObjectStore
from support.staging_child import Child
from support.waiting import until

KB = 1000
MRXS = {
    "in/a.mrxs": b"\xff\xd8 picture",
    "in/a/Slidedat.ini": b"[GENERAL]",
    "in/a/Data0000.dat": os.urandom(9 << 20),
    "in/a/Data0001.dat": b"",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where the `s3` fixture lets copies lie."""
    return tmp_path / "staging"


def slide(fill: int, size: int = 100 * KB) -> bytes:
    return bytes([fill]) * size


def staged(uri: str, **settings: object) -> LocalSlide:
    folder = os.environ["MICROTOME_STAGING_FOLDER"]
    files = slide_files_of(SlideRef("the-slide", uri))
    return localised(files, StagingSettings(folder, **settings))


def visit(uri: str, **settings: object) -> int:
    """Stage a slide and let it go; the bytes that were moved for it."""
    local = staged(uri, **settings)
    assert Path(local.path).is_file()
    local.discard()
    return local.bytes_copied


def whole(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and path.suffix != ".part"]


# one process


def test_companions_come_along_in_their_places(s3: ObjectStore):
    bucket = s3.bucket(MRXS | {"in/b.mrxs": b"other", "in/b/Data0000.dat": b"other"})
    local = staged(f"{bucket}/in/a.mrxs")
    top = Path(local.path).parent
    files = {f"in/{path.relative_to(top)}": path for path in top.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()} == MRXS
    assert Path(local.path).name == "a.mrxs"
    assert local.bytes_copied == sum(map(len, MRXS.values()))


def test_a_copy_is_used_again(s3: ObjectStore):
    uri = f"{s3.bucket({'a.svs': slide(1)})}/a.svs"
    assert [visit(uri), visit(uri)] == [100 * KB, 0]


def test_a_copy_serves_the_same_slide_in_another_bucket(s3: ObjectStore):
    first, second = (s3.bucket({"a.svs": slide(1)}) for _ in range(2))
    assert [visit(f"{first}/a.svs"), visit(f"{second}/a.svs")] == [100 * KB, 0]


def test_the_same_bytes_under_another_name_keep_that_name(s3: ObjectStore):
    bucket = s3.bucket({"a.svs": slide(1), "b.tif": slide(1)})
    names = [Path(staged(f"{bucket}/{name}").path).name for name in ("a.svs", "b.tif")]
    assert names == ["a.svs", "b.tif"]


def test_only_its_owner_can_look_into_the_folder(s3: ObjectStore, folder):
    visit(f"{s3.bucket({'a.svs': slide(1)})}/a.svs")
    assert [path.stat().st_mode & 0o777 for path in (folder, *whole(folder))] == [0o700, 0o700]


def test_the_least_recently_used_goes_first(s3: ObjectStore):
    bucket = s3.bucket({f"{name}.svs": slide(name) for name in range(4)})
    room_for_two = 250 * KB
    moved = {}
    for step, name in enumerate([0, 1, 0, 2, 0, 1, 2]):
        moved[step] = visit(f"{bucket}/{name}.svs", max_bytes=room_for_two) // KB
    # 2 takes the place of 1, not of 0, which was used since; then 1 that of 2, then 2 that of 0
    assert list(moved.values()) == [100, 100, 0, 100, 0, 100, 100]


def test_the_bound_holds(s3: ObjectStore, folder):
    bucket = s3.bucket({f"{name}.svs": slide(name) for name in range(5)})
    for name in range(5):
        visit(f"{bucket}/{name}.svs", max_bytes=250 * KB)
        assert sum(path.stat().st_size for path in folder.glob("*/*")) <= 250 * KB


def test_a_slide_larger_than_the_bound_is_refused_and_evicts_nothing(s3: ObjectStore, folder):
    bucket = s3.bucket({"a.svs": slide(1), "b.svs": slide(2, 300 * KB)})
    visit(f"{bucket}/a.svs", max_bytes=250 * KB)
    with pytest.raises(SlideUnreadable, match="takes 300,000 bytes of at most 250,000") as raised:
        staged(f"{bucket}/b.svs", max_bytes=250 * KB)
    assert "MICROTOME_STAGING_BYTES" in raised.value.remedy
    assert str(folder) not in str(raised.value)
    assert visit(f"{bucket}/a.svs") == 0


def test_a_copy_that_lost_a_file_is_fetched_again(s3: ObjectStore, folder):
    bucket = s3.bucket({"a.mrxs": slide(1), "a/Data0.dat": slide(2)})
    visit(f"{bucket}/a.mrxs")
    (whole(folder)[0] / "a/Data0.dat").unlink()
    assert visit(f"{bucket}/a.mrxs") == 200 * KB


def test_a_lock_that_lost_its_text_hides_no_bytes(s3: ObjectStore, folder):
    bucket = s3.bucket({f"{name}.svs": slide(name) for name in range(2)})
    visit(f"{bucket}/0.svs")
    next(folder.glob("*.lock")).write_bytes(b"\0\0\0")  # as after a power cut
    visit(f"{bucket}/1.svs", max_bytes=150 * KB)
    assert len(whole(folder)) == 1


def test_files_of_others_in_the_folder_stay(s3: ObjectStore, folder):
    (folder / "a.part").mkdir(parents=True)
    (folder / "poetry.lock").touch()
    bucket = s3.bucket({f"{name}.svs": slide(name) for name in range(2)})
    for name in range(2):
        visit(f"{bucket}/{name}.svs", max_bytes=100 * KB)
    assert {"a.part", "poetry.lock"} <= {path.name for path in folder.iterdir()}


def test_a_folder_that_cannot_be_made_is_this_slides_failure(s3: ObjectStore, folder):
    folder.touch()
    with pytest.raises(SlideUnreadable, match="can't be copied to this machine") as raised:
        staged(f"{s3.bucket({'a.svs': slide(1)})}/a.svs")
    assert "MICROTOME_STAGING_FOLDER" in raised.value.remedy


def full_at_first(times: int) -> Fetch:
    """Fetches 5 bytes; before that the disk is full, so many times."""
    left = [times]

    def fetch(folder: Path) -> None:
        (folder / "a").write_bytes(b"12345")
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")

    return fetch


def test_a_disk_that_is_full_unannounced_costs_idle_slides(tmp_path):
    cache = StagingCache(tmp_path, None, 1.0)
    keys = [f"{number:032x}-00000000" for number in range(3)]
    in_use = cache.held(keys[0], 5, full_at_first(0))
    cache.held(keys[1], 5, full_at_first(0)).lock.close()
    cache.held(keys[2], 5, full_at_first(1)).lock.close()
    assert {path.name for path in whole(tmp_path)} == {keys[0], keys[2]}
    in_use.lock.close()


@pytest.mark.parametrize("idle", [0, 1])
def test_a_disk_that_stays_full_is_said_and_left_clean(tmp_path, idle):
    cache = StagingCache(tmp_path, None, 1.0)
    for number in range(idle):
        cache.held(f"{number:032x}-00000000", 5, full_at_first(0)).lock.close()
    with pytest.raises(OSError, match="No space left"):
        cache.held("f" * 32 + "-00000000", 5, full_at_first(2))
    assert [path.name for path in tmp_path.iterdir()] == ["room"]


# many processes


class PromptChild(Child):
    """A child that has to answer: one that hangs fails its test rather than stops all."""

    def says(self) -> object:
        assert self._line.poll(60), "the child says nothing"
        return super().says()


@pytest.fixture
def child() -> Iterator[Callable[[str], Child]]:
    """Makes children; none outlives the test."""
    made: list[Child] = []

    def make(uri: str) -> Child:
        made.append(PromptChild(uri))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def proxy(s3: ObjectStore, monkeypatch) -> Iterator[FaultyStore]:
    """Stands before the store for this process and its children."""
    with faults_before(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def test_processes_that_want_one_slide_download_it_once(s3: ObjectStore, proxy, child):
    uri = f"{s3.bucket({'a.svs': slide(7)})}/a.svs"
    children = [child(uri) for _ in range(3)]
    proxy.fault = lambda request: request.is_content and time.sleep(0.5)  # so that they overlap
    for one in children:
        one.go_on()
    assert sorted(one.says() for one in children) == [(0, 7), (0, 7), (100 * KB, 7)]


def test_a_slide_in_use_by_another_process_is_never_evicted(s3: ObjectStore, child, folder):
    bucket = s3.bucket({"a.svs": slide(1), "b.svs": slide(2)})
    reader = child(f"{bucket}/a.svs")
    reader.go_on()
    assert reader.says() == (100 * KB, 1)

    with pytest.raises(SlideUnreadable, match="slides in use take all the room"):
        staged(f"{bucket}/b.svs", max_bytes=150 * KB, wait_s=0.3)
    assert [len(list(path.iterdir())) for path in whole(folder)] == [1]

    threading.Timer(0.3, reader.go_on).start()
    assert visit(f"{bucket}/b.svs", max_bytes=150 * KB, wait_s=60.0) == 100 * KB
    assert len(whole(folder)) == 1


def test_a_killed_reader_holds_nothing(s3: ObjectStore, child):
    bucket = s3.bucket({"a.svs": slide(1), "b.svs": slide(2)})
    reader = child(f"{bucket}/a.svs")
    reader.go_on()
    assert reader.says() == (100 * KB, 1)
    reader.kill()
    assert visit(f"{bucket}/b.svs", max_bytes=150 * KB, wait_s=0.1) == 100 * KB


@pytest.mark.parametrize("next_one", ["a", "b"])
def test_what_a_killed_download_leaves_is_swept(s3, proxy, child, folder, next_one):
    names = [f"{name}{rest}" for name in "ab" for rest in (".mrxs", "/Data0.dat", "/Data1.dat")]
    bucket = s3.bucket({name: slide(number) for number, name in enumerate(names)})
    stalled, killed = threading.Event(), threading.Event()

    def stall_at_one_file(request: Passed) -> bool:
        if request.is_content and request.path.endswith("Data1.dat"):
            stalled.set()
            killed.wait(60)
        return False

    downloader = child(f"{bucket}/a.mrxs")
    proxy.fault = stall_at_one_file
    downloader.go_on()
    assert stalled.wait(60)
    until(lambda: any(path.stat().st_size for path in folder.glob("*.part/*")), timeout_s=60.0)
    assert not whole(folder)
    downloader.kill()
    killed.set()

    assert visit(f"{bucket}/{next_one}.mrxs") == 300 * KB
    assert len(whole(folder)) == 1
    assert not list(folder.glob("*.part"))


# a store that misbehaves


def content_faults(proxy: FaultyStore, fault: Fault, times: int) -> None:
    """Let `fault` answer so many requests for content, once the slide was looked at."""
    left = iter(range(times))
    lock = threading.Lock()

    def answer(request: Passed) -> bool:
        with lock:
            due = request.is_content and next(left, None) is not None
        return bool(due and fault(request))

    proxy.fault = answer


FAULTS = {
    "503 SlowDown": lambda request: request.refuse(503, SLOW_DOWN),
    "503 in plain words": lambda request: request.refuse(503, b"busy"),
    "cut before the answer": lambda request: request.hang_up(),
    "cut half-way": lambda request: request.forward(share=0.5),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_can_pass_is_tried_again(s3: ObjectStore, proxy, fault):
    content = os.urandom(200 * KB)
    uri = f"{s3.bucket({'a.svs': content})}/a.svs"
    files = slide_files_of(SlideRef("the-slide", uri))
    content_faults(proxy, fault, times=1)
    assert Path(localised(files).path).read_bytes() == content


def test_a_refusal_is_typed_and_leaves_nothing(s3: ObjectStore, proxy, folder):
    files = slide_files_of(SlideRef("the-slide", f"{s3.bucket({'a.svs': slide(1)})}/a.svs"))
    content_faults(proxy, lambda request: request.refuse(403, DENIED), times=99)
    with pytest.raises(SlideUnreadable, match=r"a\.svs can't be read: AccessDenied"):
        localised(files)
    assert [path.name for path in folder.iterdir()] == ["room"]


@pytest.mark.parametrize(
    ("later", "error"),
    [(slide(2), SlideChanged), (slide(1, 10), SlideChanged), (None, SlideUnreadable)],
    ids=["other bytes", "shorter", "gone"],
)
def test_an_object_that_changes_while_it_is_copied_is_refused(s3, proxy, folder, later, error):
    bucket = s3.bucket({"a.svs": slide(1)})
    files = slide_files_of(SlideRef("the-slide", f"{bucket}/a.svs"))

    def replace(_: Passed) -> bool:
        s3.put(f"{bucket}/a.svs", later)
        return False

    content_faults(proxy, replace, times=1)
    with pytest.raises(error):
        localised(files)
    assert [path.name for path in folder.iterdir()] == ["room"]


def test_a_change_that_the_identity_does_not_sample_is_seen(s3: ObjectStore, proxy):
    before = slide(1, 400 * KB)
    bucket = s3.bucket({"a.svs": before})
    files = slide_files_of(SlideRef("the-slide", f"{bucket}/a.svs"))
    changed = bytearray(before)
    changed[70_000] = 9

    def replace(_: Passed) -> bool:
        s3.put(f"{bucket}/a.svs", bytes(changed))
        return False

    content_faults(proxy, replace, times=1)
    with pytest.raises(SlideChanged, match="the-slide changed while it was copied"):
        localised(files)


# settings


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MICROTOME_STAGING_FOLDER", "/scratch/slides")
    monkeypatch.setenv("MICROTOME_STAGING_BYTES", "2000000000")
    assert StagingSettings.from_environment() == StagingSettings("/scratch/slides", 2_000_000_000)


def test_by_default_copies_lie_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("MICROTOME_STAGING_FOLDER", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert StagingSettings.from_environment().cache.folder == tmp_path / "microtome/slides"


@pytest.mark.parametrize("value", ["0", "-5", "50GB", "1e9", "²", "1_000", " "])
def test_a_limit_that_is_no_number_of_bytes_is_refused(monkeypatch, value):
    monkeypatch.setenv("MICROTOME_STAGING_BYTES", value)
    with pytest.raises(SettingError, match="MICROTOME_STAGING_BYTES"):
        StagingSettings.from_environment()
