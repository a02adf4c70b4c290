"""What a Ray of our own finds in its environment, so that its Serve does as a server needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

PATIENT: Final = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_worker_niceness": "0",
}
"""For a machine that has much else to do. Serve begins a proxy anew that isn't ready within 5 s,
and gives up after 60 s; begun anew it takes as long again, so it has all of that time at once. Ray
has its processes give way to all others (niceness 15): jobs may, but somebody waits for answers."""


@contextmanager
def preset(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set what isn't set otherwise, for a Ray that starts in the context.

    One that runs already, here or elsewhere, stays as it was started.
    """
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]
