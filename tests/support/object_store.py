"""An S3 store for tests: moto's server, spoken to over real HTTP on loopback."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from moto.server import ThreadedMotoServer


@dataclass(frozen=True)
class ObjectStore:
    """A running store; the AWS variables of this process point to it while its fixture lives."""

    endpoint: str

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs in its environment to use the store."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def bucket(self, files: Mapping[str, bytes | Path] | None = None) -> str:
        """Make a bucket that holds `files` by key; returns its URI, `s3://name`."""
        name = f"slides-{uuid.uuid4().hex[:12]}"
        self._s3.mkdir(name)
        for key, content in (files or {}).items():
            self.put(f"s3://{name}/{key}", content)
        return f"s3://{name}"

    def put(self, uri: str, content: bytes | Path | None) -> None:
        """Write an object over what lies there; None deletes it."""
        if content is None:
            self._s3.rm_file(uri)
        else:
            self._s3.pipe_file(uri, content.read_bytes() if isinstance(content, Path) else content)

    def listed(self, uri: str) -> list[str]:
        """All keys below a URI, with their bucket."""
        return [str(key) for key in self._s3.find(uri)]

    def etag(self, uri: str) -> str:
        """The version of an object."""
        return str(self._s3.info(uri)["ETag"])

    @property
    def _s3(self) -> Any:
        return fsspec.filesystem(
            "s3",
            endpoint_url=self.endpoint,
            key="test",
            secret="test-secret",
            use_listings_cache=False,
        )


def forget_stores() -> None:
    """Drop open S3 filesystems, which keep the credentials that they were opened with."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@contextmanager
def running_store() -> Iterator[ObjectStore]:
    """Start a store on a free port; it ends with the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield ObjectStore(f"http://{host}:{port}")
    finally:
        server.stop()
