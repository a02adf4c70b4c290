"""How much memory this process comes to hold, whatever ran in it before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SELF = Path("/proc/self")


class Growth:
    """Bytes of memory by which a process grew at most."""

    def __init__(self) -> None:
        self.most_bytes = 0


@contextmanager
def watched_memory() -> Iterator[Growth]:
    """Measure the peak within the block against its beginning."""
    (_SELF / "clear_refs").write_text("5")  # the kernel forgets the peak so far
    growth, before = Growth(), _resident_bytes("VmRSS")
    yield growth
    growth.most_bytes = _resident_bytes("VmHWM") - before


def _resident_bytes(which: str) -> int:
    kilobytes = re.search(rf"{which}:\s*(\d+) kB", (_SELF / "status").read_text())
    assert kilobytes
    return int(kilobytes[1]) * 1024
