"""A server on this machine, or on the cluster that `RAY_ADDRESS` names, until it is told to end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Final

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from microtome.engine.cluster import cluster, nodes
from microtome.errors import ClusterFailed, SettingError
from microtome_serve.app import application, resolved
from microtome_serve.config_file import APP, Place
from microtome_serve.environment import PATIENT, preset
from microtome_serve.front import in_front, replicas_listen
from microtome_serve.settings import QUIET, ServeSettings

log = logging.getLogger("microtome.serve")

LOOK_EVERY_S: Final = 5.0


def checked(settings: ServeSettings, place: Place) -> ServeSettings:
    """The settings as the server will have them; whatever is wrong is said before Ray starts.

    Raises:
        SettingError: nobody may ask, or somebody is listening there already.
        AtlasError, ModelError: see `resolved`.
    """
    settings.auth.check(place.host)
    if not os.environ.get("RAY_ADDRESS"):  # there it may be Serve itself that listens
        _check_free(place)
    return resolved(settings)


def _check_free(place: Place) -> None:
    try:
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((place.host, place.port))
    except OSError as error:
        raise SettingError(
            f"can't listen at {place.host}:{place.port}: {error.strerror}",
            remedy="Choose another --port, or end what listens there.",
        ) from None


@contextmanager
def serving(settings: ServeSettings, place: Place, *, front: bool = True) -> Iterator[None]:
    """Answer while the context is open; requests that are under way at its end are still answered.

    On a cluster where Serve runs already, whatever else it serves goes on.

    Args:
        settings: the server's.
        place: where it listens.
        front: whether HAProxy stands before it, where it can, see `front`.

    Raises:
        SettingError: the cluster's Serve listens elsewhere, or has such a server already.
        ClusterFailed: it couldn't be started.
    """
    with preset(PATIENT | (replicas_listen() if front else {})), cluster():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray took it for an end at once
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if any(node.gpus for node in nodes()) and not settings.embedder.gpus:
            settings = replace(settings, embedder=replace(settings.embedder, gpus=1.0))
        with _serve_at(in_front(settings, place) if front else nullcontext(place), place):
            with _starting():
                ingress = serve.run(application(settings), name=APP, route_prefix="/")
            try:
                yield
            finally:
                _drain(ingress, settings.limits.deadline_s)


@contextmanager
def _starting() -> Iterator[None]:
    """Tell what goes wrong meanwhile."""
    try:
        yield
    except (RuntimeError, TimeoutError, RayError, RayServeException) as error:
        raise ClusterFailed(
            "the server couldn't be started", remedy="Its log is in /tmp/ray/session_latest."
        ) from error


@contextmanager
def _serve_at(fronted: AbstractContextManager[Place], place: Place) -> Iterator[None]:
    """Ray Serve, listening there, or where a front has it listen; at the end it is as before."""
    theirs = _get_global_client(raise_if_no_controller_running=False)
    if theirs is None:
        with fronted as behind:
            options = behind.http_options()
            try:
                with _starting():
                    serve.start(
                        http_options=options, proxy_location="HeadOnly", logging_config=QUIET
                    )
                yield
            finally:
                serve.shutdown()
        return
    check_theirs(theirs.http_config.model_dump(), place)
    try:
        yield
    finally:
        serve.delete(APP)


def check_theirs(http_options: Mapping[str, Any], place: Place) -> None:
    """Refuse a cluster whose Serve can't listen as wanted, or where such a server is already.

    Serve itself takes no other options while it runs, and only logs that it doesn't.

    Raises:
        SettingError: says how it listens.
    """
    differs = {
        name: http_options.get(name)
        for name, value in place.http_options().items()
        if http_options.get(name) != value
    }
    if differs:
        said = ", ".join(f"{name} {value}" for name, value in differs.items())
        raise SettingError(
            f"the cluster's Ray Serve runs with {said}",
            remedy="Take its --host and --port, or write a file with --write-config and deploy it.",
        )
    if APP in serve.status().applications:
        raise SettingError(
            f"the cluster serves a {APP!r} already",
            remedy="Change it with --write-config FILE and `serve deploy FILE`.",
        )


def guarded_by(environment: Mapping[str, str]) -> str:
    """What keeps strangers from Ray's own ports, once Ray runs: a sentence."""
    if environment.get("RAY_AUTH_MODE", "").lower() == "token":
        return "Ray's own ports are guarded by its token."
    return (
        "Nothing guards Ray's own ports, by which anyone runs code: put a firewall before them, "
        "or set RAY_AUTH_MODE=token."
    )


def _drain(ingress: DeploymentHandle, timeout_s: float) -> None:
    """Wait until what is under way is answered: Serve itself takes all parts down at once."""
    try:
        ingress.broadcast("drain", timeout_s).results(timeout_s=timeout_s + LOOK_EVERY_S)
    except Exception as error:  # noqa: BLE001 - it ends anyway
        log.warning("the server ends with requests under way: %s", type(error).__name__)


def wait_for_end() -> None:
    """Return never, but by Ctrl-C or SIGTERM.

    Raises:
        KeyboardInterrupt: one of them came.
        ClusterFailed: Ray is gone.
    """
    while True:
        time.sleep(LOOK_EVERY_S)
        if not ray.is_initialized() or APP not in serve.status().applications:
            raise ClusterFailed("the server is gone", remedy="Start it again.")
