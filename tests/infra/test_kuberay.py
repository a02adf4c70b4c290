"""The manifests fit the program and each other; `test_ray_job` submits their very command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KUBERAY = Path(__file__).parents[2] / "infra" / "kuberay"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERAY / name).read_text()))


def test_the_job_asks_for_ray_as_it_is_pinned() -> None:
    (job,) = documents("index-job.yaml")
    pins = (KUBERAY.parents[1] / "constraints.txt").read_text().splitlines()

    assert f"ray=={job['spec']['rayClusterSpec']['rayVersion']}" in pins


def test_the_schedule_creates_that_job_and_leaves_time_for_it() -> None:
    (job,) = documents("index-job.yaml")
    (cron,) = [d for d in documents("index-schedule.yaml") if d["kind"] == "CronJob"]
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (kustomization,) = documents("kustomization.yaml")
    (config,) = kustomization["configMapGenerator"]

    assert pod["containers"][0]["command"] == ["kubectl", "create", "-f", "/job/index-job.yaml"]
    assert pod["volumes"][0]["configMap"]["name"] == config["name"]
    assert config["files"] == ["index-job.yaml"]
    assert cron["spec"]["schedule"].split()[2:] == ["*", "*", "*"]  # once a day
    assert job["spec"]["activeDeadlineSeconds"] < 24 * 3600


def test_every_container_has_limits_and_takes_its_secrets_by_reference() -> None:
    (job,) = documents("index-job.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [c for group in groups for c in group["template"]["spec"]["containers"]]

    assert len(containers) == 2
    for container in containers:
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
        assert container["envFrom"] == [{"secretRef": {"name": "microtome-s3"}}]
