"""One server for all tests of the package: real Ray Serve, real HTTP, on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from microtome_serve.access import AuthSettings
from microtome_serve.config_file import Place
from microtome_serve.settings import QUIET, ServeSettings
from support.guarded import Guarded, guarded_ingress
from support.served_atlas import index_served
from support.serving import SMALL, answering, deploy_config, free_port, manifest_config


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
def serve_port(ray_cluster: None) -> int:
    """The port of the run's Ray Serve, which ends with its Ray."""
    from ray import serve

    port = free_port()
    serve.start(http_options=Place(port=port).http_options(), logging_config=QUIET)
    return port


@pytest.fixture(scope="session")
def server(serve_port: int, serve_settings: ServeSettings) -> str:
    """The URL of a server that answers from the atlas of `served_folder`.

    It is deployed as KubeRay deploys its manifest, with other settings.
    """
    config = manifest_config()
    config["applications"][0]["args"] = serve_settings.to_args()
    deploy_config(config)
    return answering(f"http://127.0.0.1:{serve_port}")


@pytest.fixture(scope="session")
def http(server: str) -> Iterator[httpx.Client]:
    """Asks the server."""
    with httpx.Client(base_url=server, timeout=60.0) as client:
        yield client


@pytest.fixture(scope="session")
def guarded(
    server: str, serve_settings: ServeSettings, tmp_path_factory: pytest.TempPathFactory
) -> Guarded:
    """The same server through an ingress that wants tokens, and has small limits."""
    tokens = str(tmp_path_factory.mktemp("guarded") / "tokens.json")
    return guarded_ingress(serve_settings, server, tokens)
