"""The third way to run a job: `ray job submit` to a cluster that is there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from microtome.atlas.atlas import Atlas
from microtome.models.registry import load_encoder
from microtome_jobs.made.slides import MadeSpec, make_slides
from support.made_patches import TINY_CGD, write_patches
from support.object_store import ObjectStore
from support.serving import free_port

pytestmark = [pytest.mark.slow]
RAY = Path(sys.executable).with_name("ray")
RAY_JOB = Path(__file__).parents[2] / "infra" / "kuberay" / "index-job.yaml"


@pytest.fixture(scope="module")
def jobs_api(
    object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    """A head node in processes of its own: the address of its Jobs API, and the environment."""
    dashboard, token = free_port(), "a-token-for-tests-only-0123456789"
    environment = os.environ | object_store.variables
    for what in ("STAGING", "MODELS"):
        environment[f"MICROTOME_{what}_FOLDER"] = str(tmp_path_factory.mktemp(what))
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",  # the job's `python` is ours
    }
    environment.pop("RAY_ADDRESS", None)
    command = [RAY, "start", "--head", "--block", f"--port={free_port()}", "--num-cpus=2"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += ["--object-store-memory=100000000", f"--ray-client-server-port={free_port()}"]
    command += [f"--dashboard-agent-listen-port={free_port()}"]  # another Ray holds the usual one
    log = (tmp_path_factory.mktemp("head") / "log").open("w+")
    head = subprocess.Popen(
        [str(word) for word in command],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        wait_for(dashboard, head, log.name)
        yield f"http://127.0.0.1:{dashboard}", environment
    finally:
        if head.poll() is None:
            os.killpg(head.pid, signal.SIGKILL)  # its own session: nobody else's processes
            head.wait(timeout=60)


def wait_for(port: int, head: subprocess.Popen[bytes], log: str) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and head.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    pytest.fail(f"the head node did not come up: {Path(log).read_text()}")


def submit(jobs_api: tuple[str, dict[str, str]], *words: str) -> str:
    """Run a command as a job; what it printed."""
    address, environment = jobs_api
    command = [str(RAY), "job", "submit", "--address", address, "--", *words]
    for _ in range(20):  # the API answers before the agent that runs jobs is up
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        if "No available agent" not in done.stderr:
            break
        time.sleep(1)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_manifest_s_command_submitted_indexes_a_bucket(
    jobs_api: tuple[str, dict[str, str]], s3: ObjectStore, tmp_path: Path
) -> None:
    made = make_slides(tmp_path, MadeSpec(slides=1, side_px=1024, bad=False))
    (slide,) = made.folder.glob("*.svs")
    bucket = s3.bucket({"archive/a.svs": slide})
    command = shlex.split(yaml.safe_load(RAY_JOB.read_text())["spec"]["entrypoint"])
    words = [word.replace("s3://slides", bucket) for word in command]

    told = submit(jobs_api, *words)

    assert re.search(r'"done": 1\b', told)
    assert Atlas.open(words[words.index("--atlas") + 1]).tiles.count_rows() > 0


def test_a_submitted_job_fits_a_model(jobs_api: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    patches = write_patches(tmp_path / "patches")
    command = ["python", "-m", "microtome_training", "train", "folder-cgd"]
    command += ["--data", f"folder:{patches}", "--out", str(tmp_path / "model")]
    for change in (*TINY_CGD, "fit.epochs=1"):
        command += ["--set", change]

    submit(jobs_api, *command)

    assert load_encoder(str(tmp_path / "model")).card.dim == 16
