"""Real servers on the Ray Serve of the test run."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from ray import serve
from ray.serve.schema import ServeDeploySchema

from microtome_serve.app import application, resolved
from microtome_serve.settings import Scale, ServeSettings
from support.waiting import until

MANIFEST = Path(__file__).parents[2] / "infra" / "kuberay" / "rayservice.yaml"
SMALL = Scale(cpus=0)
"""Other tests need the few cores that the cluster counts."""


def free_port() -> int:
    """A port of loopback that nobody listens on.

    It lies apart from those that connections are given, so that none takes it meanwhile, and from
    those of Ray and its Serve.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def manifest_config() -> dict[str, Any]:
    """The Serve config file inside KubeRay's manifest."""
    service = yaml.safe_load(MANIFEST.read_text())
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


def deploy_config(config: dict[str, Any], timeout_s: float = 240.0) -> None:
    """What `serve deploy FILE` does, by the client that its REST API uses, and wait for it."""
    client = serve.context._get_global_client()
    client.deploy_apps(ServeDeploySchema.model_validate(config))
    (name,) = (one["name"] for one in config["applications"])
    until = time.monotonic() + timeout_s
    while (status := serve.status().applications[name]).status != "RUNNING":
        assert status.status == "DEPLOYING", status.message
        assert time.monotonic() < until, status
        time.sleep(0.2)


def answering(url: str) -> str:
    """The URL of a server, once all its parts answer; Serve says sooner that it runs."""
    until(lambda: httpx.get(f"{url}/readyz", timeout=60).is_success)
    until(lambda: httpx.get(f"{url}/v1/slides", timeout=60).status_code in {200, 401})
    return url


@contextmanager
def served_beside(settings: ServeSettings, name: str, port: int) -> Iterator[str]:
    """A further server on a Serve that runs, under a path of its own; its URL."""
    serve.run(application(resolved(settings)), name=name, route_prefix=f"/{name}")
    try:
        yield answering(f"http://127.0.0.1:{port}/{name}")
    finally:
        serve.delete(name)


def replicas_of(app: str, deployment: str) -> list[psutil.Process]:
    """The processes of a deployment, among those that this process's Ray started."""
    title = f"ray::ServeReplica:{app}:{deployment}"
    ours = psutil.Process(os.getpid()).children(recursive=True)
    found = []
    for one in ours:
        try:
            if " ".join(one.cmdline()).startswith(title):
                found.append(one)
        except psutil.NoSuchProcess:
            continue
    return found
