"""A server as `microtome serve` runs it, beside a handler that does nothing."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import ray
from ray import serve

from microtome_serve.access import AuthSettings
from microtome_serve.config_file import Place
from microtome_serve.front_targets import LOOK_EVERY_S
from microtome_serve.serving import checked, serving
from microtome_serve.settings import Batching, ServeSettings

_KIND = re.compile(r"(?:ray::(?:ServeReplica:microtome:)?([A-Z][\w-]+)(?:\..*)?|(haproxy))")
"""Names of Serve's processes: what they are, and what they do at the moment."""


@serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100)
class Trivial:
    """Answers at once: what Serve itself costs."""

    async def __call__(self, _: object) -> str:
        return "ok"


@dataclass(frozen=True)
class Urls:
    """Where a server is asked.

    Attributes:
        server: as its clients do.
        trivial: the handler that does nothing, by Serve's proxy, which is Serve's own way.
        direct: the same at the handler's own port; None where it has none.
    """

    server: str
    trivial: str
    direct: str | None


@contextmanager
def running(
    atlas: str,
    audit: Path,
    batching: Batching = Batching(),  # noqa: B008
    *,
    front: bool = True,
) -> Iterator[Urls]:
    """A server, with HAProxy before it or without, and a handler that does nothing."""
    place = Place(port=_free_port())
    settings = ServeSettings(
        atlas, auth=AuthSettings(open=True), batching=batching, audit=str(audit)
    )
    with serving(checked(settings, place), place, front=front):
        serve.run(Trivial.bind(), name="trivial", route_prefix="/trivial")
        until = time.monotonic() + 120
        while httpx.get(f"{place.url}/readyz").status_code != 200 and time.monotonic() < until:
            time.sleep(0.5)
        time.sleep(2 * LOOK_EVERY_S)  # HAProxy has learnt of the replicas
        yield _urls(place)


def _urls(place: Place) -> Urls:
    client = serve.context._get_global_client()
    proxy = client.http_config.port
    groups = ray.get(client._controller.get_target_groups.remote(app_name="trivial"))
    (port,) = {target.port for group in groups for target in group.targets}
    urls = {port: f"http://127.0.0.1:{port}/trivial" for port in (proxy, port)}
    return Urls(place.url, urls.pop(proxy), next(iter(urls.values()), None))


@contextmanager
def memory_watched() -> Iterator[dict[str, list[float]]]:
    """Resident bytes of this server's processes, once a second, by kind."""
    seen: dict[str, list[float]] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            for kind, size in _of_each(lambda process: process.memory_info().rss).items():
                seen.setdefault(kind, []).append(size)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def cpu_s() -> dict[str, float]:
    """CPU seconds that this server's processes have used so far, by kind."""
    return _of_each(lambda process: sum(process.cpu_times()[:2]))


def _of_each(measure: Callable[[psutil.Process], float]) -> dict[str, float]:
    """Sums over the processes of each kind."""
    sums: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if kind := _KIND.fullmatch(process.name()):
                name = kind[1] or kind[2]
                sums[name] = sums.get(name, 0) + measure(process)
    return sums


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
