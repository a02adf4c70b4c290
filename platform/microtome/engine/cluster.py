"""Where the work runs: a cluster that is there, or a local Ray of our own."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import ray
from ray.exceptions import RayError, RayTaskError

from microtome.errors import ClusterFailed

OBJECT_STORE_BYTES = 256 * 2**20  # only outcomes cross processes: a few KB per slide


@contextmanager
def cluster() -> Iterator[None]:
    """Run inside a Ray cluster.

    The one already joined is used as it is; else the one `RAY_ADDRESS` names (inside
    `ray job submit` Ray sets it); else a local one, started here and ended here. A local one
    sends no usage statistics and has no dashboard.
    """
    if ray.is_initialized():
        yield
        return
    # Patient-data shops must not phone home; whoever starts a cluster elsewhere decides there.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Lance warns at every fork that it isn't safe after one; Ray executes another program at once.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level="warning")
    else:
        # Nobody takes this machine from under it; the watcher is a process more for each training.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level="error",
            log_to_driver=False,  # what goes wrong with a slide stands in the ledger
        )
    try:
        yield
    finally:
        ray.shutdown()


class Node(NamedTuple):
    """Cores and GPUs of one machine of the cluster."""

    cpus: int
    gpus: int


def nodes() -> list[Node]:
    """The machines that can work now; a head that keeps out of it has no cores."""
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    found = [Node(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in alive]
    return [node for node in found if node.cpus] or [Node(1, 0)]


def cluster_failed(error: RayError) -> ClusterFailed:
    """What Ray said when it could not go on, in a line."""
    said = str(error).strip().splitlines()[0]
    if isinstance(error, RayTaskError):  # its first line tells where, in colours, and not what
        cause = error.cause.__cause__ or error.cause  # Ray Data wraps it
        said = f"a task brought up a {type(cause).__name__} that nobody foresaw"
    return ClusterFailed(
        f"Ray could not go on: {said}",
        remedy="What was committed stays; look at Ray's logs, then run the same command again.",
    )
