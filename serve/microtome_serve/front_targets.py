"""Who answers behind HAProxy: replicas of the ingress itself, past Serve's proxy, while they live.

Serve's proxy takes a request, sends it through Ray and streams the answer back, which costs more
than all else that a search does in these two processes. Told so by its environment (`DIRECT`),
Serve has each replica of an ingress listen at a port of its own. Which ones there are is asked of
Serve's controller once a second, and told to HAProxy; a replica that is lost in between HAProxy
notices itself. Where there is none, Serve's proxy answers.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import ray
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from microtome_serve.config_file import APP, Place
from microtome_serve.front_config import Lane, lanes, slots
from microtome_serve.settings import ServeSettings

log = logging.getLogger("microtome.serve")

DIRECT: Final = {
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
}
"""The environment of a Ray whose Serve is to listen so. A replica that is to go still answers for
so many seconds, while HAProxy learns of it; Serve looks every 2 s whether it has gone quiet."""

LOOK_EVERY_S: Final = 1.0
PATIENCE_S: Final = 2.0
"""For an answer of the controller, or of HAProxy."""


def replica_ports(behind: Place) -> list[int]:
    """Ports of the ingress's replicas; none where Serve doesn't run, or has its proxy listen alone.

    Args:
        behind: where Serve's proxy listens, which the controller names where no replica does.
    """
    if not ray.is_initialized():  # or asking would start it
        return []
    try:
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return []
    groups = ray.get(controller.get_target_groups.remote(), timeout=PATIENCE_S)
    ours = [one for one in groups if one.app_name == APP and one.protocol == "HTTP"]
    targets = [target for group in ours for target in group.targets]
    here = ray.util.get_node_ip_address()
    if any(one.ip != here for one in targets):  # they listen to their own machine alone
        return []
    return [one.port for one in targets if one.port != behind.port]


@contextmanager
def directed(settings: ServeSettings, behind: Place, control: Path) -> Iterator[None]:
    """Keep HAProxy told of the replicas while the context is open."""
    ended = threading.Event()
    thread = threading.Thread(
        target=_keep_told,
        args=(settings, lambda: replica_ports(behind), control, ended),
        name="front",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # before Ray ends, which it asks


def _keep_told(
    settings: ServeSettings, ports: Callable[[], list[int]], control: Path, ended: threading.Event
) -> None:
    """Tell it all again each time: a HAProxy that was started anew knows nothing of it."""
    names = slots(settings)
    taken: list[int | None] = [None] * len(names)
    while not ended.wait(LOOK_EVERY_S):
        try:
            taken = settled(taken, ports())
            for lane in lanes(settings):
                tell(control, commands(lane, names, taken))
        except Exception as error:  # noqa: BLE001 - the next look may do better
            log.debug("HAProxy wasn't told: %s", type(error).__name__)


def settled(taken: Sequence[int | None], ports: Sequence[int]) -> list[int | None]:
    """Ports in slots: whoever is there stays in place, the others take what is free, if any is."""
    kept = [port if port in ports else None for port in taken]
    new = iter([port for port in ports if port not in kept])
    return [next(new, None) if port is None else port for port in kept]


def commands(lane: Lane, names: Sequence[str], taken: Sequence[int | None]) -> list[str]:
    """What HAProxy is told so that a lane has the replicas of these ports."""
    share = lane.share(sum(port is not None for port in taken))
    told = []
    for name, port in zip(names, taken, strict=True):
        server = f"server {lane.name}/{name}"
        if port is None:
            told.append(f"set {server} state maint")
            continue
        told.append(f"set {server} addr 127.0.0.1 port {port}")
        if lane.at_once:
            told.append(f"set maxconn {server} {share}")
        told.append(f"set {server} state ready")
    return told


def tell(control: Path, commands: Sequence[str]) -> str:
    """Give HAProxy commands; what it answers.

    Raises:
        OSError: it isn't there.
    """
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(PATIENCE_S)
        line.connect(str(control))
        line.sendall(f"{'; '.join(commands)}\n".encode())
        return b"".join(iter(lambda: line.recv(4096), b"")).decode()
