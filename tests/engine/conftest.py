"""One local Ray for all tests that need one: starting it takes longer than most of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from microtome.engine.cluster import cluster


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray that later calls of `run_index` join instead of starting their own."""
    with cluster():
        yield


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB; skips where mounting one isn't allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs rights that aren't here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
