"""A server on this machine, or on the cluster that `RAY_ADDRESS` names, until it is told to end."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from microtome.engine.cluster import cluster, nodes
from microtome.errors import ClusterFailed, SettingError
from microtome_serve.app import application, resolved
from microtome_serve.config_file import APP, Place
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
    return resolved(settings)


@contextmanager
def serving(settings: ServeSettings, place: Place) -> Iterator[None]:
    """Answer while the context is open; requests that are under way at its end are still answered.

    Raises:
        ClusterFailed: it couldn't be started.
    """
    with cluster():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray took it for an end at once
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if any(node.gpus for node in nodes()) and not settings.embedder.gpus:
            settings = replace(settings, embedder=replace(settings.embedder, gpus=1.0))
        serve.start(
            http_options=place.http_options(), proxy_location="HeadOnly", logging_config=QUIET
        )
        try:
            ingress = serve.run(application(settings), name=APP, route_prefix="/")
        except RuntimeError as error:
            serve.shutdown()
            raise ClusterFailed(
                "the server couldn't be started", remedy="Its log is in /tmp/ray/session_latest."
            ) from error
        try:
            yield
        finally:
            _drain(ingress, settings.limits.deadline_s)
            serve.shutdown()


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
