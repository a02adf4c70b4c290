"""One writer at a time: who is refused, who may take over, and when."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from microtome.atlas import lease as leasing
from microtome.atlas.lease import Holder, Lease, LeaseSettings, take_lease
from microtome.atlas.lease_store import LeaseStore, lease_store
from microtome.errors import AtlasBusy, AtlasWriteFailed, LeaseLost, SettingError
from support.object_store import ObjectStore
from support.waiting import until

SETTINGS = LeaseSettings(ttl_s=60.0, renew_s=0.02)
ELSEWHERE = Holder(
    purpose="index", host="far", pid=1, since="1999-01-01T00:00:00", ttl_s=60.0,
    machine="another", born="1",
)  # fmt: skip


class Clock:
    """The lease's own: it moves only when a test says so, however busy the machine is."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.while_asleep: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.while_asleep()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leasing, "time", clock)
    return clock


@pytest.fixture(params=["folder", "bucket"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An atlas's place, in a folder and in a bucket."""
    if request.param == "folder":
        return str(tmp_path / "atlas")
    s3: ObjectStore = request.getfixturevalue("s3")
    return f"{s3.bucket()}/atlas"


@pytest.fixture
def store(uri: str) -> LeaseStore:
    return lease_store(uri)


def take(uri: str) -> Lease:
    return take_lease(uri, "index", SETTINGS)[0]


def was_renewed(store: LeaseStore, clock: Clock) -> bool:
    """Whether the first holder has written its object at the clock's present time."""
    holder = Holder.from_json(store.get("000000000001.json") or b"")
    return holder is not None and holder.at_s == clock.now_s


def test_an_object_is_made_once(store: LeaseStore):
    assert store.put_new("a", b"1")
    assert not store.put_new("a", b"2")
    assert (store.get("a"), store.names()) == (b"1", ["a"])
    store.put("a", b"3")
    assert store.get("a") == b"3"
    store.delete("a")
    store.delete("a")
    assert (store.get("a"), store.names()) == (None, [])


def test_a_second_job_is_refused_and_told_who_holds_the_atlas(uri: str):
    take(uri)
    with pytest.raises(AtlasBusy) as caught:
        take(uri)
    assert f"another job writes to the atlas {uri}: index on " in caught.value.message
    assert "process " in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("clean", [True, False])
def test_what_was_released_is_taken_at_once(uri: str, clean: bool):
    take(uri).release(clean=clean)
    lease, others_may_commit = take_lease(uri, "index", LeaseSettings())
    assert (lease.epoch, others_may_commit) == (2, not clean)


def test_only_the_newest_epoch_is_kept(uri: str, store: LeaseStore):
    for _ in range(3):
        take(uri).release(clean=True)
    assert store.names() == ["000000000003.json"]


def test_a_dead_process_of_this_machine_is_followed_at_once(uri: str):
    code = (
        "import sys; from microtome.atlas.lease import *;"
        "take_lease(sys.argv[1], 'index', LeaseSettings(ttl_s=3600, renew_s=60))"
    )
    subprocess.run([sys.executable, "-c", code, uri], check=True)
    assert take_lease(uri, "index", SETTINGS)[1], "its commits may still be under way"


def test_a_reused_process_id_is_not_the_holder(uri: str, store: LeaseStore):
    holder = Holder.this_process("index", LeaseSettings())
    store.put_new("000000000001.json", replace(holder, born="1").to_json())
    assert take(uri).epoch == 2


def test_a_silent_process_of_this_machine_is_followed_when_its_lease_expires(
    uri: str, clock: Clock
):
    take(uri)  # nobody renews it
    clock.now_s += SETTINGS.ttl_s
    with pytest.raises(AtlasBusy):
        take(uri)
    clock.now_s += 1
    assert take(uri).epoch == 2


def test_a_holder_that_renews_keeps_the_atlas(uri: str, store: LeaseStore, clock: Clock):
    lease = take(uri)
    clock.now_s += 40
    lease.keep(SETTINGS.renew_s)
    until(lambda: was_renewed(store, clock), timeout_s=60.0)
    clock.now_s += 40
    with pytest.raises(AtlasBusy):
        take(uri)
    lease.check()
    lease.release(clean=True)


@pytest.mark.parametrize("since", ["1999-01-01T00:00:00", "2999-01-01T00:00:00"])
def test_a_silent_holder_elsewhere_is_watched_for_its_time_whatever_its_clock_says(
    uri: str, store: LeaseStore, clock: Clock, since: str
):
    far = replace(ELSEWHERE, since=since, at_s=1e9)
    store.put_new("000000000001.json", far.to_json())
    began_s = clock.now_s
    assert take(uri).epoch == 2
    assert 1.0 < (clock.now_s - began_s) / far.ttl_s < 1.1


def test_a_holder_elsewhere_that_renews_is_alive_whatever_its_clock_says(
    uri: str, store: LeaseStore, clock: Clock
):
    store.put_new("000000000001.json", ELSEWHERE.to_json())
    renewed = replace(ELSEWHERE, beat=1).to_json()
    clock.while_asleep = lambda: store.put("000000000001.json", renewed)
    with pytest.raises(AtlasBusy, match="index on far, process 1, since 1999"):
        take(uri)


@pytest.mark.parametrize("left", [b"", b"{", b'{"pid": 1}'])
def test_half_a_lease_expires_like_a_whole_one(tmp_path: Path, left: bytes):
    lease_store(str(tmp_path)).put_new("000000000001.json", left)
    assert take(str(tmp_path)).epoch == 2


def test_of_two_who_take_over_at_the_same_moment_one_gets_it(
    uri: str, monkeypatch: pytest.MonkeyPatch
):
    take(uri).release(clean=True)
    this_process, others = Holder.this_process, iter([lambda: take(uri)])

    def beaten(purpose: str, settings: LeaseSettings) -> Holder:
        for other in others:
            other()
        return this_process(purpose, settings)

    monkeypatch.setattr(Holder, "this_process", beaten)
    with pytest.raises(AtlasBusy):
        take(uri)


def test_an_epoch_that_others_have_passed_is_no_lease(uri: str, monkeypatch: pytest.MonkeyPatch):
    """Somebody who listed epochs long ago makes an object where a pruned one had been."""
    take(uri).release(clean=True)
    this_process, others = Holder.this_process, iter(range(2))

    def slow(purpose: str, settings: LeaseSettings) -> Holder:
        for _ in others:
            take(uri).release(clean=True)
        return this_process(purpose, settings)

    monkeypatch.setattr(Holder, "this_process", slow)
    assert take(uri).epoch == 4
    assert lease_store(uri).names() == ["000000000004.json"]


def test_a_holder_who_was_followed_knows_it(uri: str, store: LeaseStore):
    lease = take(uri)
    lease.check()
    store.put_new("000000000002.json", ELSEWHERE.to_json())
    with pytest.raises(LeaseLost, match="took over the atlas"):
        lease.check()


def test_a_lease_that_can_not_be_renewed_is_lost(tmp_path: Path, clock: Clock):
    lease = take(str(tmp_path / "atlas"))
    (tmp_path / "atlas").rename(tmp_path / "gone")
    clock.now_s += SETTINGS.ttl_s + 1
    with pytest.raises(LeaseLost, match=r"could not be renewed for 61 s"):
        lease.check()


def test_a_renewal_that_fails_for_a_while_loses_nothing(tmp_path: Path, clock: Clock):
    lease = take(str(tmp_path / "atlas"))
    lease.keep(SETTINGS.renew_s)
    (tmp_path / "atlas").rename(tmp_path / "away")
    clock.now_s += 40
    time.sleep(0.1)
    (tmp_path / "away").rename(tmp_path / "atlas")
    until(lambda: was_renewed(lease_store(str(tmp_path / "atlas")), clock), timeout_s=60.0)
    clock.now_s += 40
    with pytest.raises(AtlasBusy):
        take(str(tmp_path / "atlas"))
    lease.check()
    lease.release(clean=True)


def test_a_store_that_refuses_is_said(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(AtlasWriteFailed, match="the lease could not be written to the atlas"):
        take(str(tmp_path / "file" / "atlas"))


def test_a_renewal_must_come_twice_before_a_lease_expires():
    with pytest.raises(SettingError, match="renew_s must be at most half"):
        LeaseSettings(ttl_s=10.0, renew_s=6.0)
