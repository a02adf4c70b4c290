"""A Ray of several machines, each a raylet with its workers, and jobs on it that can be killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from unittest.mock import patch

import psutil

from microtome.config import IndexSettings
from microtome.engine.index import run_index
from support.bare_index import index_here
from support.killing import start

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from ray._private.node import Node
    from ray.cluster_utils import Cluster

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A lost machine refuses five calls in a row and is given up; one that is slow answers them.
    "RAY_health_check_period_ms": "1000",
}


@contextmanager
def running_machines(count: int) -> Iterator[Cluster]:
    """Machines of one core each, beside a head that keeps out of the work."""
    from ray.cluster_utils import Cluster  # Ray's import takes seconds

    head = {
        "num_cpus": 0,
        "include_dashboard": False,
        "dashboard_agent_listen_port": 0,
        "include_log_monitor": False,
        "no_monitor": True,
    }
    with patch.dict(os.environ, SETTINGS):
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(count):
                cluster.add_node(num_cpus=1)
            yield cluster
        finally:
            cluster.shutdown()


def start_index(settings: IndexSettings, machines: Cluster) -> BaseProcess:
    """The indexing job, in a process of its own."""
    return start(_index, settings, machines.address, os.environ.get("RAY_AUTH_MODE", "disabled"))


def index_alone(settings: IndexSettings) -> None:
    """The same job without Ray, in this process, with as many threads as a worker of one core."""
    import torch

    torch.set_num_threads(1)
    index_here(settings)


def _index(settings: IndexSettings, address: str, auth_mode: str) -> None:
    from ray._raylet import Config

    # The server this was forked from may be older than the Ray that turned tokens on.
    os.environ["RAY_ADDRESS"], os.environ["RAY_AUTH_MODE"] = address, auth_mode
    Config.initialize("")
    run_index(settings)


def raylet_of(machine: Node) -> psutil.Process:
    """The process without which a machine is lost."""
    (raylet,) = machine.all_processes["raylet"]
    return psutil.Process(raylet.process.pid)


def workers_of(machine: Node) -> list[psutil.Process]:
    """The processes of a machine that embed."""
    found = []
    for process in raylet_of(machine).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("SlideActor" in word for word in process.cmdline()):
                found.append(process)
    return found
