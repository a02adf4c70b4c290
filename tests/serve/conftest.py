"""One server for all tests of the package: real Ray Serve, real HTTP, on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from microtome_serve.access import AuthSettings
from microtome_serve.settings import Scale, ServeSettings
from support.served_atlas import index_served

SMALL = Scale(cpus=0.05)
"""Other tests share the cluster's few cores."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `slides/` and `atlas/`."""
    folder = tmp_path_factory.mktemp("served")
    index_served(folder)
    return folder


@pytest.fixture(scope="session")
def serve_settings(served_folder: Path) -> ServeSettings:
    """What the server of `server` is told."""
    return ServeSettings(
        str(served_folder / "atlas"),
        auth=AuthSettings(open=True),
        ingress=SMALL,
        search=SMALL,
        embedder=SMALL,
        pictures=SMALL,
    )


@pytest.fixture(scope="session")
def server(ray_cluster: None, serve_settings: ServeSettings) -> Iterator[str]:
    """The URL of a server that answers from the atlas of `served_folder`."""
    from ray import serve

    from microtome_serve.app import application, resolved

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(application(resolved(serve_settings)), name="microtome", route_prefix="/")
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()


@pytest.fixture(scope="session")
def http(server: str) -> Iterator[httpx.Client]:
    """Asks the server."""
    with httpx.Client(base_url=server, timeout=30.0) as client:
        yield client
