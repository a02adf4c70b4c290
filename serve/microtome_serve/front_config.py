"""What HAProxy is told before it starts: who shares places, what is refused, and in which words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from microtome.errors import DeadlinePassed, NotAllowed, Overloaded
from microtome_serve.config_file import KEEP_ALIVE_S, Place
from microtome_serve.refusals import MEDIA_TYPE, Problem, problem_of
from microtome_serve.settings import Scale, ServeSettings

HEADERS_S: Final = 10
"""Within so long a request's headers must have arrived."""

CONFIG: Final = """\
global
    nbthread 1
    maxconn 4096
    stats socket {control} mode 600 level admin
defaults
    mode http
    balance leastconn
    option abortonclose
    option http-no-delay
    option redispatch 1
    timeout connect 500ms
    timeout http-request {headers_s}s
    timeout http-keep-alive {keep_alive_s}s
    timeout client {client_s:.0f}s
    timeout server {server_s:.0f}s
    timeout queue {queue_s:.0f}s
    default-server inter 2s fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down
{errors}
frontend front
    bind {address}
{rules}
{backends}
"""
"""One refused connection is enough to leave a replica out; who was refused waits as long as for a
connection, which over loopback is a moment, and goes to another one."""


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

    def share(self, replicas: int) -> int:
        """Let in at once by each of so many; together a little more, rather than less."""
        return -(-self.at_once // max(1, replicas))


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


def slots(settings: ServeSettings) -> tuple[str, ...]:
    """Names of a lane's servers that replicas of the ingress are put into, old ones beside new."""
    return tuple(f"direct{number}" for number in range(2 * settings.ingress.max_replicas + 2))


def config_of(settings: ServeSettings, place: Place, behind: Place, control: Path) -> str:
    """What HAProxy is told.

    Args:
        settings: the server's.
        place: where HAProxy listens.
        behind: where Serve's proxy does.
        control: the socket that tells HAProxy more, see `front_targets`.
    """
    limits = settings.limits
    *others, rest = lanes(settings)
    rules = [f"use_backend {one.name} if {{ path_beg {one.path} }}" for one in others]
    plain = f"!{{ res.hdr(content-type) -m beg {MEDIA_TYPE} }}"  # as Serve itself refuses
    rules.insert(0, f"http-response return {_told(_FULL)} if {{ status 503 }} {plain}")
    if settings.auth.open:  # behind a proxy, `access` can't tell who is on this machine
        rules.insert(0, f"http-request return {_told(_ELSEWHERE)} unless {{ src 127.0.0.0/8 ::1 }}")
    return CONFIG.format(
        control=control,
        headers_s=HEADERS_S,
        keep_alive_s=KEEP_ALIVE_S,
        client_s=limits.body_s + HEADERS_S,
        server_s=limits.deadline_s + HEADERS_S,
        queue_s=limits.deadline_s,
        errors=_indented(f"http-error {_told(one)}" for one in _ERRORS),
        address=f"{place.host}:{place.port}",
        rules=_indented((*rules, f"default_backend {rest.name}")),
        backends="\n".join(_backend(one, behind, slots(settings)) for one in lanes(settings)),
    )


def _backend(lane: Lane, behind: Place, direct: tuple[str, ...]) -> str:
    """Replicas answer, once they are told of; Serve's proxy where there are none."""
    lines = [f"server {name} {behind.host}:1 disabled check" for name in direct]
    lines.append(f"server serve {behind.host}:{behind.port} backup")
    if lane.at_once:
        lines[-1] += f" maxconn {lane.at_once}"
        full = f"be_conn gt {lane.at_once + lane.waiting}"
        lines.insert(0, f"http-request return {_told(_FULL)} if {{ {full} }}")
    return f"backend {lane.name}\n{_indented(lines)}"


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


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
"""What HAProxy itself answers, as problem documents. To what isn't a whole request it has words of
its own (400 and 408), which no setting changes: they are built into what reads HTTP there."""


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
