"""Settings, through files and back."""

from __future__ import annotations

import pytest
import yaml

from microtome.errors import SettingError
from microtome_serve.access import AuthSettings
from microtome_serve.config_file import Place, config_text, serve_config
from microtome_serve.limits import Limits
from microtome_serve.settings import Batching, Scale, ServeSettings
from support.serving import MANIFEST, manifest_config

FULL = ServeSettings(
    "s3://slides/atlas",
    model="tissue",
    candidate="starter",
    shadow=0.25,
    allow_licences=("cc-by-nc-4.0",),
    auth=AuthSettings(tokens="s3://slides/tokens.json"),
    limits=Limits(k=50),
    batching=Batching(8, 0),
    embedder=Scale(2, 4, cpus=1, gpus=0.5),
)


def test_settings_survive_the_file():
    written = yaml.safe_load(config_text(FULL, Place("0.0.0.0", 9000)))

    assert written == yaml.safe_load(yaml.safe_dump(serve_config(FULL, Place("0.0.0.0", 9000))))
    assert written["http_options"]["port"] == 9000
    assert ServeSettings.from_args(written["applications"][0]["args"]) == FULL


# what the file says, and what of it is named
WRONG = {
    "an unknown name": ({"atlas": "a", "modell": "x"}, "modell"),
    "an unknown name further down": ({"atlas": "a", "limits": {"l": 1}}, "args.limits"),
    "no atlas": ({}, "args"),
    "an empty atlas": ({"atlas": ""}, "atlas"),
    "a list": (["atlas"], "args"),
    "a text for a table": ({"atlas": "a", "search": "big"}, "args.search"),
    "a share above 1": ({"atlas": "a", "shadow": 2}, "shadow"),
    "no replica": ({"atlas": "a", "search": {"min_replicas": 0}}, "min_replicas"),
    "fewer at most than at least": (
        {"atlas": "a", "search": {"min_replicas": 3, "max_replicas": 2}},
        "max_replicas",
    ),
    "a text for true or false": ({"atlas": "a", "auth": {"open": "false"}}, "args.auth.open"),
    "a number for true or false": ({"atlas": "a", "auth": {"open": 1}}, "args.auth.open"),
    "a text for a number": ({"atlas": "a", "limits": {"k": "50"}}, "args.limits.k"),
    "true for a number": ({"atlas": "a", "limits": {"k": True}}, "args.limits.k"),
    "a text for a list": ({"atlas": "a", "allow_licences": "mit"}, "args.allow_licences"),
    "a list of numbers": ({"atlas": "a", "allow_licences": [1]}, "args.allow_licences"),
    "a list for a text": ({"atlas": ["a"]}, "args.atlas"),
    "nothing for a number": ({"atlas": "a", "search": {"cpus": None}}, "args.search.cpus"),
    "no number at all": ({"atlas": "a", "limits": {"deadline_s": float("nan")}}, "deadline_s"),
    "an empty batch": ({"atlas": "a", "batching": {"tiles": 0}}, "tiles"),
}


@pytest.mark.parametrize(("said", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_named(said, named):
    with pytest.raises(SettingError, match=named):
        ServeSettings.from_args(said)


@pytest.mark.parametrize(
    ("place", "url"),
    [
        (Place(), "http://127.0.0.1:8000"),
        (Place("0.0.0.0", 80), "http://127.0.0.1:80"),
        (Place("::1", 8000), "http://[::1]:8000"),
    ],
)
def test_a_place_is_told_as_it_can_be_asked(place, url):
    assert place.url == url


@pytest.mark.parametrize("port", [0, 70_000])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(SettingError, match="port"):
        Place(port=port)


def test_the_manifest_s_settings_are_right_and_ask_for_tokens():
    config = manifest_config()
    settings = ServeSettings.from_args(config["applications"][0]["args"])

    settings.auth.check(config["http_options"]["host"])
    assert config["logging_config"] == {"enable_access_log": False}
    assert settings.embedder.gpus == 1


def test_the_manifest_asks_for_ray_as_it_is_pinned():
    service = yaml.safe_load(MANIFEST.read_text())
    pins = (MANIFEST.parents[2] / "constraints.txt").read_text().splitlines()

    assert f"ray=={service['spec']['rayClusterConfig']['rayVersion']}" in pins
