"""One writer at a time: a lease on the atlas that names its holder, is renewed, and expires.

A holder is an object `_lease/<epoch>.json`, which can be made only once; the highest epoch holds.
The holder rewrites its object every few seconds. Whoever wants the atlas

1. is refused at once by a holder of this machine that lives and renews;
2. takes over at once what was released, what has expired on this machine's clock, and what a
   process of this machine held that is dead;
3. else watches the object: one that changes has a living holder, one that stays the same for as
   long as its holder promised to renew it is taken over.

Only intervals of one's own monotonic clock count, so clocks that disagree do no harm. That a
holder who was merely paused can do none either is the writer's business: see `writer`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from microtome.atlas.lease_store import LeaseStore, lease_store
from microtome.config import check_positive
from microtome.console import err
from microtome.errors import AtlasBusy, AtlasError, LeaseLost, SettingError


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """How long a silent holder is waited for.

    Attributes:
        ttl_s: a lease that wasn't renewed for so long may be taken over.
        renew_s: how often the holder renews it.
    """

    ttl_s: float = 60.0
    renew_s: float = 15.0

    def __post_init__(self) -> None:
        check_positive("ttl_s", self.ttl_s)
        check_positive("renew_s", self.renew_s)
        if self.renew_s > self.ttl_s / 2:
            raise SettingError(
                f"renew_s must be at most half of ttl_s ({self.ttl_s:g}), not {self.renew_s:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lease, as its object says it.

    Attributes:
        purpose: what the job does, e.g. `index`.
        host: name of its machine.
        pid: its process.
        since: when it took the lease, ISO 8601 of its own clock; for people.
        ttl_s: how long it may be silent.
        token: tells holders apart.
        machine: one boot of one machine and one space of process ids; empty where unknown.
        born: when its process started, in the machine's ticks; tells reused ids apart.
        beat: how often it was renewed.
        at_s: the machine's monotonic clock at the last renewal.
        released: whether it was given back.
        clean: whether none of its commits can be under way any more.
    """

    purpose: str
    host: str
    pid: int
    since: str
    ttl_s: float
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    machine: str
    born: str
    beat: int = 0
    at_s: float = 0.0
    released: bool = False
    clean: bool = False

    @classmethod
    def this_process(cls, purpose: str, settings: LeaseSettings) -> Holder:
        """A holder that is this process."""
        pid = os.getpid()
        return cls(
            purpose=purpose,
            host=socket.gethostname(),
            pid=pid,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            ttl_s=settings.ttl_s,
            machine=_machine(),
            born=_born(pid),
            at_s=time.monotonic(),
        )

    @classmethod
    def from_json(cls, data: bytes) -> Holder | None:
        """What an object says; None for one that is only half written."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """The object's bytes."""
        return json.dumps(asdict(self), indent=1).encode()

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine, where its process and its clock can be looked at."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def is_gone(self) -> bool:
        """Whether a holder of this machine is dead, or silent for too long."""
        return _born(self.pid) != self.born or time.monotonic() - self.at_s > self.ttl_s

    def __str__(self) -> str:
        return f"{self.purpose} on {self.host}, process {self.pid}, since {self.since}"


class Lease:
    """The right to write to an atlas, until it is released or somebody takes it over."""

    def __init__(self, uri: str, store: LeaseStore, epoch: int, holder: Holder) -> None:
        self.epoch = epoch
        self._uri = uri
        self._store = store
        self._holder = holder
        self._writing = threading.Lock()
        self._ended = threading.Event()

    def check(self) -> None:
        """Make sure that nobody has taken over.

        Raises:
            LeaseLost: somebody has, or may: this holder could not renew it for too long.
            AtlasError: the store doesn't answer.
        """
        overdue_s = time.monotonic() - self._holder.at_s
        if overdue_s > self._holder.ttl_s:
            try:
                self._renew()
            except AtlasError as error:
                raise LeaseLost(
                    f"the lease on the atlas {self._uri} could not be renewed for "
                    f"{overdue_s:.0f} s: {error.message}",
                    remedy="Mend the store and run the same command again to go on from there.",
                ) from error
        if _newest(self._store) > self.epoch:
            raise LeaseLost(
                f"another job took over the atlas {self._uri} while this one was silent",
                remedy="Nothing it wrote since is visible; run the same command again later.",
            )

    def release(self, *, clean: bool) -> None:
        """Give it back.

        Args:
            clean: whether none of this holder's commits can be under way any more.
        """
        self._ended.set()
        with suppress(AtlasError):  # it expires by itself
            self._write(released=True, clean=clean)

    def keep(self, every_s: float) -> None:
        """Renew it from now on; a renewal that fails is tried again in a moment."""
        threading.Thread(target=self._keep, args=(every_s,), daemon=True).start()

    def _keep(self, every_s: float) -> None:
        wait_s = every_s
        while not self._ended.wait(wait_s):
            try:
                self._renew()
                wait_s = every_s
            except AtlasError:
                wait_s = every_s / 10

    def _renew(self) -> None:
        self._write(beat=self._holder.beat + 1)

    def _write(self, **change: bool | int) -> None:
        now_s = time.monotonic()
        with self._writing:
            if self._holder.released:
                return  # a renewal that was late
            changed = replace(self._holder, at_s=now_s, **change)  # type: ignore[arg-type]
            self._store.put(_name(self.epoch), changed.to_json())
            self._holder = changed


def take_lease(uri: str, purpose: str, settings: LeaseSettings) -> tuple[Lease, bool]:
    """Take the atlas for this process; the lease isn't renewed yet.

    Returns:
        The lease, and whether commits of an earlier holder may still be under way.

    Raises:
        AtlasBusy: another job writes to it.
        AtlasError: the store refuses.
    """
    store = lease_store(uri)
    while True:
        newest = _newest(store)
        before = _outlive(uri, store, newest) if newest else None
        holder = Holder.this_process(purpose, settings)
        lease = Lease(uri, store, newest + 1, holder)
        if not store.put_new(_name(lease.epoch), holder.to_json()):
            continue  # somebody was quicker
        if _newest(store) > lease.epoch:
            store.delete(_name(lease.epoch))  # made where a pruned one had been
            continue
        for epoch in _epochs(store):
            if epoch < lease.epoch:
                store.delete(_name(epoch))
        clean = newest == 0 or (before is not None and before.clean)
        return lease, not clean


def _outlive(uri: str, store: LeaseStore, epoch: int) -> Holder | None:
    """Return once the holder of an epoch is gone, with what it last said.

    Raises:
        AtlasBusy: it lives.
    """
    seen = store.get(_name(epoch))
    holder = Holder.from_json(seen or b"")
    if holder and (holder.released or holder.is_here):
        if holder.released or holder.is_gone:
            return holder
        raise _busy(uri, holder)
    ttl_s = holder.ttl_s if holder else LeaseSettings().ttl_s
    err.print(f"waiting up to {ttl_s:.0f} s: {holder or 'another job'} may be at work", style="dim")
    since_s = time.monotonic()
    while time.monotonic() - since_s <= ttl_s:
        time.sleep(ttl_s / 20)
        now = store.get(_name(epoch))
        if now == seen:
            continue
        seen, holder = now, Holder.from_json(now or b"") or holder
        if holder is None or holder.released:
            return holder
        raise _busy(uri, holder)
    return holder


def _busy(uri: str, holder: Holder) -> AtlasBusy:
    return AtlasBusy(
        f"another job writes to the atlas {uri}: {holder}",
        remedy="Wait until it has ended. A job that died is followed at once on its own machine, "
        f"and after {holder.ttl_s:.0f} s on others.",
    )


def _name(epoch: int) -> str:
    return f"{epoch:012d}.json"


def _epochs(store: LeaseStore) -> list[int]:
    stems = [name.removesuffix(".json") for name in store.names()]
    return [int(stem) for stem in stems if stem.isdecimal()]


def _newest(store: LeaseStore) -> int:
    return max(_epochs(store), default=0)


def _machine() -> str:
    """One boot and one space of process ids; empty where the system doesn't say (no Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process of this machine started; empty if it is dead, also one not yet buried."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = facts[0], facts[19]
    return "" if state in "ZX" else started
