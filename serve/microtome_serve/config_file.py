"""The server as a file for `serve deploy`, and for KubeRay's `serveConfigV2`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import yaml

from microtome.config import check_whole
from microtome.errors import SettingError
from microtome_serve.settings import QUIET, ServeSettings

APP: Final = "microtome"
IMPORT_PATH: Final = "microtome_serve.app:build"
KEEP_ALIVE_S: Final = 75  # longer than load balancers keep an idle connection, usually 60 s

HEADER: Final = """\
# Serve an atlas on a Ray cluster:
#
#   serve deploy FILE
#
# A change that is deployed anew drops no request; while the model changes, some that embed are told
# to come again (503, Retry-After), since no model is taken for another. `args` are the server's
# settings, described in microtome_serve/settings.py; `http_options` stand for the whole cluster.
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens.

    Attributes:
        host: an address of this machine.
        port: 1 to 65535.
    """

    host: str = "127.0.0.1"
    port: int = 8000

    def __post_init__(self) -> None:
        if not self.host:
            raise SettingError("host must be an address of this machine, such as 127.0.0.1")
        check_whole("port", self.port, least=1, most=65_535)

    @property
    def url(self) -> str:
        """Where it can be asked from this machine."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{'127.0.0.1' if host in {'0.0.0.0', '[::]'} else host}:{self.port}"  # noqa: S104

    def http_options(self) -> dict[str, Any]:
        """What Serve takes."""
        return {"host": self.host, "port": self.port, "keep_alive_timeout_s": KEEP_ALIVE_S}


def serve_config(settings: ServeSettings, place: Place) -> dict[str, Any]:
    """What a Serve config file holds."""
    application = {
        "name": APP,
        "route_prefix": "/",
        "import_path": IMPORT_PATH,
        "args": settings.to_args(),
    }
    return {
        "http_options": place.http_options(),
        "logging_config": QUIET,
        "applications": [application],
    }


def config_text(settings: ServeSettings, place: Place) -> str:
    """The file."""
    return HEADER + yaml.safe_dump(serve_config(settings, place), sort_keys=False)
