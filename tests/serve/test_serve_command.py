"""`microtome serve`: wrong settings are said before anything starts; Ctrl-C ends it in order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError
from typer.testing import CliRunner

from microtome.errors import ClusterFailed, SettingError
from microtome_serve import serving as serving_module
from microtome_serve.access import AuthSettings
from microtome_serve.commands import app
from microtome_serve.config_file import Place
from microtome_serve.front import program
from microtome_serve.serving import check_theirs, guarded_by, serving
from microtome_serve.settings import ServeSettings
from support.served_atlas import MODEL
from support.serving import free_port
from support.waiting import until

REGION = {"kind": "region", "slide_id": "north/a", "x": 0, "y": 0, "width_px": 64, "height_px": 64}


@pytest.fixture
def atlas(served_folder) -> str:
    return str(served_folder / "atlas")


def run(*flags: str):
    return CliRunner().invoke(app, ["serve", *flags, "--json"])


# flags, exit code, and what the message names
WRONG = {
    "nobody may ask": ((), 2, "nobody could ask"),
    "open to all": (("--open", "--host", "0.0.0.0"), 2, "0.0.0.0"),
    "open, and tokens": (("--open", "--tokens", "t.json"), 2, "one or the other"),
    "no port": (("--open", "--port", "0"), 2, "port"),
    "no share": (("--open", "--shadow", "7"), 2, "shadow"),
    "no model": (("--open", "--model", "nothing"), 1, "nothing"),
    "a model that the atlas hasn't": (("--open", "--model", "starter"), 1, "microtome embed"),
    "no such candidate": (("--open", "--candidate", "tissue"), 1, "tissue"),
}


@pytest.mark.parametrize(("flags", "code", "named"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_before_ray_starts(atlas, flags, code, named):
    done = run("--atlas", atlas, *flags)

    assert done.exit_code == code, done.output
    assert named in done.stdout


def test_an_atlas_that_is_not_there_is_said_before_ray_starts(tmp_path):
    done = run("--atlas", str(tmp_path / "no atlas"), "--open")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["cause"] == "atlas-not-found"


def test_a_port_that_is_taken_is_said_before_ray_starts(atlas):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("--atlas", atlas, "--open", "--port", port)

    assert done.exit_code == 2
    assert port in done.stdout


def test_the_file_for_serve_deploy_holds_the_flags(atlas, tmp_path):
    import yaml

    file = tmp_path / "serve.yaml"
    flags = ("--tokens", "t.json", "--port", "81", "--audit", "-", "--write-config", str(file))
    done = run("--atlas", atlas, *flags)
    config = yaml.safe_load(file.read_text())

    assert done.exit_code == 0, done.output
    assert config["http_options"]["port"] == 81
    (application,) = config["applications"]
    settings = ServeSettings.from_args(application["args"])
    assert settings.auth.tokens == str(Path("t.json").resolve())
    assert settings.audit == "-"


# what holds a secret
SECRETS = {
    "the atlas": ("--atlas", "s3://key:secret@bucket/atlas", "--tokens", "t.json"),
    "the tokens": ("--atlas", "s3://bucket/atlas", "--tokens", "s3://key:secret@bucket/t.json"),
}


@pytest.mark.parametrize("flags", SECRETS.values(), ids=SECRETS)
def test_no_secret_goes_into_a_file(flags, tmp_path):
    file = tmp_path / "serve.yaml"
    done = run(*flags, "--write-config", str(file))

    assert done.exit_code == 2
    assert "credentials" in done.stdout
    assert "secret" not in done.stdout
    assert not file.exists()


# what the cluster's Serve has, what is wrong with it
THEIRS = {
    "another port": ({"port": 9000}, "port 9000"),
    "another host": ({"host": "0.0.0.0"}, "host 0.0.0.0"),
    "another time": ({"keep_alive_timeout_s": 5}, "keep_alive_timeout_s 5"),
}


@pytest.mark.parametrize(("theirs", "named"), THEIRS.values(), ids=THEIRS)
def test_a_cluster_that_listens_otherwise_is_refused(theirs, named):
    place = Place("127.0.0.1", 8000)

    with pytest.raises(SettingError, match=named):
        check_theirs(place.http_options() | theirs, place)


@pytest.mark.ray
def test_a_cluster_that_has_such_a_server_keeps_it(server, serve_port, atlas):
    settings = ServeSettings(atlas, auth=AuthSettings(open=True))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with (
            pytest.raises(SettingError, match="already"),
            serving(settings, Place(port=serve_port)),
        ):
            pass
    finally:
        signal.signal(signal.SIGTERM, handler)

    assert httpx.get(f"{server}/healthz", timeout=60).status_code == 200


@pytest.mark.parametrize("error", [ActorDiedError(), GetTimeoutError("late"), TimeoutError()])
def test_a_serve_that_does_not_start_is_said_and_ended(error, monkeypatch):
    ended = []

    def start(**_: object) -> None:
        raise error

    monkeypatch.setattr(serving_module, "_get_global_client", lambda **_: None)
    monkeypatch.setattr(serving_module.serve, "start", start)
    monkeypatch.setattr(serving_module.serve, "shutdown", lambda: ended.append(True))
    serving_there = serving_module._serve_at(nullcontext(Place()), Place())

    with pytest.raises(ClusterFailed, match="couldn't be started"), serving_there:
        pass
    assert ended


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RAY_AUTH_MODE": "token"}, "guarded by its token"),
        ({"RAY_AUTH_MODE": "disabled"}, "Nothing guards"),
        ({}, "Nothing guards"),
    ],
)
def test_what_guards_ray_s_ports_is_told_as_it_is(environment, said):
    assert said in guarded_by(environment)


def asks_replicas(server: subprocess.Popen) -> bool:
    """Whether its HAProxy knows replicas of the ingress, by the ports that Serve gives them."""
    asked: set[int] = set()
    for one in psutil.Process(server.pid).children():
        with suppress(psutil.NoSuchProcess):  # some come and go
            if one.name() == "haproxy":
                asked |= {line.raddr.port for line in one.net_connections() if line.raddr}
    return any(30_000 <= port < 31_000 for port in asked)


def facts_of(server: subprocess.Popen) -> dict[str, str]:
    """What it says once it answers."""
    said = ""
    while not said.endswith("}\n"):
        line = server.stdout.readline()
        assert line, f"it ended: {said}"
        said += line
    return json.loads(said)


def told(answer: httpx.Response) -> str:
    """What is told: an answer, or the cause of the refusal."""
    return "answered" if answer.is_success else answer.json()["cause"]


@pytest.mark.slow
@pytest.mark.ray
def test_it_answers_and_ends_in_order_when_told(atlas):
    port = free_port()
    command = [sys.executable, "-c", "from microtome.cli import main; main()", "serve"]
    server = subprocess.Popen(
        [*command, "--atlas", atlas, "--open", "--port", str(port), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    )
    try:
        facts = facts_of(server)
        assert (facts["url"], facts["model"]) == (f"http://127.0.0.1:{port}", MODEL)
        with httpx.Client(base_url=facts["url"], timeout=120) as client:
            until(lambda: client.get("/readyz").status_code == 200)
            if program() is not None:
                until(lambda: client.get("/healthz").status_code == 200 and asks_replicas(server))
            begun = psutil.Process(server.pid).children(recursive=True)
            with ThreadPoolExecutor(2) as two:
                wanted = {"queries": [REGION], "level": "region"}
                asked = [two.submit(client.post, "/v1/search", json=wanted) for _ in range(2)]
                while client.get("/healthz").status_code != 200:
                    pass
                server.send_signal(signal.SIGTERM)
                answers = [one.result() for one in asked]
        assert server.wait(120) == 130
    finally:
        server.kill()
        server.wait()

    assert {told(answer) for answer in answers} <= {"answered", "overloaded"}  # if it came late
    _, left = psutil.wait_procs(begun, timeout=60)
    assert not left
