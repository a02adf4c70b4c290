"""What every test may ask for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from microtome_serve.environment import PATIENT
from support.faulty_store import FaultyStore, faults_before
from support.object_store import ObjectStore, forget_stores, running_store

# That a machine is busy is no fault of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure() -> None:
    """Whatever Ray a test starts has its share of busy cores: its workers are what is tested."""
    for name, value in PATIENT.items():
        os.environ.setdefault(name, value)


def joins_ray(nodeid: str) -> bool:
    """Whether a test's file has tests that join the run's Ray."""
    return _is_marked(nodeid.partition("::")[0])


@cache
def _is_marked(file: str) -> bool:
    return "pytest.mark.ray" in (Path(__file__).parents[1] / file).read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, see `Sharing`."""
    items.sort(key=lambda item: not joins_ray(item.nodeid))


class Sharing(LoadScopeScheduling):
    """Who runs what where processes share the tests: whoever is free takes the next file.

    All files that join the run's Ray are one: a second Ray would cost more than it saves.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "on Ray" if joins_ray(nodeid) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Sharing:
    """Share the tests so (`-n`)."""
    return Sharing(config, log)


def _folder_from(variable: str) -> Path:
    """The folder a variable names; the test skips, saying why, where there is none."""
    value = os.environ.get(variable, "")
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} names no folder: real files for tests are not here")
    return Path(value)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real slides and labelled patches; never part of the project."""
    return _folder_from("MICROTOME_TEST_DATA")


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Pretrained weights for timm; never part of the project."""
    return _folder_from("MICROTOME_TEST_WEIGHTS")


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3 store, over real HTTP."""
    with running_store() as store:
        yield store


@pytest.fixture
def s3(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStore:
    """An S3 store that this process's AWS variables point to; `s3.bucket(files)` makes a bucket."""
    monkeypatch.setenv("MICROTOME_STAGING_FOLDER", str(tmp_path / "staging"))
    monkeypatch.setenv("MICROTOME_MODELS_FOLDER", str(tmp_path / "models"))
    for name, value in object_store.variables.items():
        monkeypatch.setenv(name, value)
    return object_store


@pytest.fixture(scope="session")
def ray_cluster(
    object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A local Ray that later calls join instead of starting their own, which takes long.

    Its workers' AWS variables point to the store of `s3`.
    """
    from microtome.engine.cluster import cluster  # Ray's import takes seconds

    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MICROTOME_MODELS_FOLDER", str(tmp_path_factory.mktemp("models")))
            for name, value in object_store.variables.items():
                patch.setenv(name, value)
            stack.enter_context(cluster())
        yield


@pytest.fixture
def proxy(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """Faults and latency before the store of `s3`: this process's AWS variables point to it."""
    with faults_before(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
    forget_stores()


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
