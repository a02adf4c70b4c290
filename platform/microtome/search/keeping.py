"""What was made for conditions that come again, kept up to so many bytes.

Conditions may be long, so what is kept goes by their hash. Each is made once: whoever asks for it
meanwhile waits for that alone, and no longer than somebody waits for the answer (`patience`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final, Generic, TypeVar

from microtome.search import patience

ENTRY_BYTES: Final = 4096  # of what holds one, however small it is
LOOK_S: Final = 0.2  # how often one that waits for what another makes looks at its patience

Made = TypeVar("Made")


class Kept(Generic[Made]):
    """Keeps what was used last; safe to use from many threads.

    Args:
        most_bytes: of all that is kept, unless one alone is larger; each counts `ENTRY_BYTES` more.
        size_of: bytes of one.
    """

    def __init__(self, most_bytes: int, size_of: Callable[[Made], int]) -> None:
        self._most_bytes = most_bytes
        self._size_of = size_of
        self._kept: OrderedDict[bytes, Made] = OrderedDict()
        self._bytes = 0
        self._making: dict[bytes, Lock] = {}
        self._lock = Lock()

    def of(self, name: tuple[object, ...], make: Callable[[], Made]) -> Made:
        """What is kept under a name, or is made now.

        Args:
            name: of parts whose `repr` tells them apart.
            make: makes it; what it raises is raised, and nothing is kept.

        Raises:
            DeadlinePassed: nobody waits for it any more.
        """
        key = hashlib.blake2b(repr(name).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            if key in self._kept:
                return self._used(key)
            making = self._making.setdefault(key, Lock())
        with _patiently(making):
            with self._lock:
                if key in self._kept:
                    return self._used(key)
            try:
                made = make()
                self._keep(key, made)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return made

    def _used(self, key: bytes) -> Made:
        self._kept.move_to_end(key)
        return self._kept[key]

    def _cost(self, made: Made) -> int:
        return ENTRY_BYTES + self._size_of(made)

    def _keep(self, key: bytes, made: Made) -> None:
        with self._lock:
            if key in self._kept:  # after a failure two may make it
                self._bytes -= self._cost(self._kept.pop(key))
            self._bytes += self._cost(made)
            self._kept[key] = made
            while self._bytes > self._most_bytes and len(self._kept) > 1:
                self._bytes -= self._cost(self._kept.popitem(last=False)[1])


@contextmanager
def _patiently(lock: Lock) -> Iterator[None]:
    while not lock.acquire(timeout=LOOK_S):
        patience.check()
    try:
        yield
    finally:
        lock.release()
