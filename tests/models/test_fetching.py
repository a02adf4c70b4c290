"""Models that lie in an object store."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from microtome.cli_models import app
from microtome.errors import (
    CheckpointInvalid,
    LicenceRefused,
    MicrotomeError,
    ModelError,
    ModelNotFound,
    SettingError,
)
from microtome.models.card import ModelCard
from microtome.models.checkpoint import save_checkpoint
from microtome.models.encoder import EncoderOptions
from microtome.models.registry import canonical_name, load_card, load_encoder
from support.faulty_store import FaultyStore, Passed
from support.object_store import ObjectStore


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder."""
    folder = tmp_path_factory.mktemp("best")
    return saved(folder)


def saved(folder: Path, seed: int = 0, **changes: str) -> Path:
    encoder = load_encoder(f"timm:test_resnet@random:{seed}")
    save_checkpoint(folder, encoder._module, replace(encoder.card, **changes))
    return folder


def card_of(folder: Path) -> ModelCard:
    return ModelCard.from_json((folder / "card.json").read_text())


def put(store: ObjectStore, folder: Path, uri: str = "") -> str:
    """Bring a folder to a bucket; returns its URI."""
    uri = uri or f"{store.bucket()}/run/best"
    for file in folder.iterdir():
        store.put(f"{uri}/{file.name}", file)
    return uri


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where `s3` has copies kept."""
    return tmp_path / "models"


def copies(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_it_is_the_model_that_was_put_there(s3: ObjectStore, best: Path, cache: Path):
    uri = put(s3, best)
    assert load_encoder(f"{uri}/").card == load_card(uri) == card_of(best)
    assert canonical_name(uri) == uri
    (copy,) = copies(cache)
    assert copy.name == card_of(best).model_id
    weights = (copy / "weights.safetensors").read_bytes()
    assert weights == (best / "weights.safetensors").read_bytes()


def test_weights_are_fetched_once(s3: ObjectStore, best: Path):
    uri = put(s3, best)
    load_card(uri)
    s3.put(f"{uri}/weights.safetensors", None)
    assert load_encoder(uri).card == card_of(best)


def test_another_model_at_the_same_place_is_seen(s3: ObjectStore, best: Path, tmp_path: Path):
    uri = put(s3, best)
    load_card(uri)
    other = saved(tmp_path / "other", seed=1)
    put(s3, other, uri)
    assert load_card(uri) == card_of(other) != card_of(best)


@pytest.mark.parametrize(
    ("changes", "cause", "says"),
    [
        ({"card.json": None}, ModelNotFound, "nothing lies at {uri}/card.json"),
        ({"card.json": b"{}"}, CheckpointInvalid, "{uri}: the model card can't be read"),
        ({"card.json": b"\xff"}, CheckpointInvalid, "{uri}: the model card can't be read"),
        (
            {"weights.safetensors": None},
            CheckpointInvalid,
            "nothing lies at {uri}/weights.safetensors",
        ),
        ({"weights.safetensors": b"cut"}, CheckpointInvalid, "in the model folder {uri} can't be"),
        ({"weights.safetensors": ...}, CheckpointInvalid, "the weights in {uri} aren't the ones"),
    ],
)
def test_what_is_no_model_is_refused_and_not_kept(
    s3: ObjectStore,
    best: Path,
    cache: Path,
    changes: Mapping[str, bytes | None],
    cause: type[MicrotomeError],
    says: str,
):
    uri = put(s3, best)
    for name, content in changes.items():
        stored = (best / name).read_bytes()
        s3.put(f"{uri}/{name}", stored[:-1] + b"\xff" if content is ... else content)
    with pytest.raises(cause) as caught:
        load_encoder(uri)
    assert says.format(uri=uri) in caught.value.message
    assert not cache.exists() or not list(cache.iterdir())


def flip(copy: Path) -> None:
    weights = copy / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")


def empty(copy: Path) -> None:
    (copy / "weights.safetensors").unlink()


def replace_by_a_file(copy: Path) -> None:
    shutil.rmtree(copy)
    copy.touch()


@pytest.mark.parametrize("damage", [flip, empty, replace_by_a_file])
def test_a_damaged_copy_is_fetched_again(
    s3: ObjectStore, best: Path, cache: Path, damage: Callable[[Path], None]
):
    uri = put(s3, best)
    load_card(uri)
    damage(*copies(cache))
    assert load_card(uri) == card_of(best)
    s3.put(f"{uri}/weights.safetensors", None)
    assert load_card(uri) == card_of(best)


def test_a_damaged_copy_that_can_not_be_fetched_again(s3: ObjectStore, best: Path, cache: Path):
    uri = put(s3, best)
    load_card(uri)
    flip(*copies(cache))
    s3.put(f"{uri}/weights.safetensors", None)
    with pytest.raises(CheckpointInvalid, match=f"nothing lies at {uri}/weights.safetensors"):
        load_card(uri)


def test_all_who_want_a_model_at_once_fetch_it_once(
    proxy: FaultyStore, s3: ObjectStore, best: Path
):
    uri, fetched = put(s3, best), []

    def slow(request: Passed) -> None:
        if request.command == "GET" and request.path.endswith("weights.safetensors"):
            fetched.append(request.path)
            time.sleep(0.2)

    proxy.fault = slow
    with ThreadPoolExecutor(4) as pool:
        cards = list(pool.map(load_card, [uri] * 4))
    assert cards == [card_of(best)] * 4
    assert len(fetched) == 1


def test_what_a_killed_process_left_goes_and_what_another_fetches_stays(
    proxy: FaultyStore,
    s3: ObjectStore,
    best: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    uri, other = put(s3, best), saved(tmp_path / "other", seed=1)
    other_uri = put(s3, other)

    def meanwhile(request: Passed) -> None:
        if request.command == "GET" and request.path.endswith("best/weights.safetensors"):
            proxy.fault = lambda _: False
            shutil.copytree(cache, tmp_path / "killed")
            load_card(other_uri)

    proxy.fault = meanwhile
    load_card(uri)
    assert {copy.name for copy in copies(cache)} == {
        card_of(best).model_id,
        card_of(other).model_id,
    }

    assert copies(tmp_path / "killed")
    monkeypatch.setenv("MICROTOME_MODELS_FOLDER", str(tmp_path / "killed"))
    load_card(other_uri)
    assert [copy.name for copy in copies(tmp_path / "killed")] == [card_of(other).model_id]


def with_licence(best: Path, licence: str) -> bytes:
    return replace(card_of(best), licence=licence).to_json().encode()


def test_the_card_that_was_checked_is_the_one_that_is_loaded(
    proxy: FaultyStore, s3: ObjectStore, best: Path
):
    uri = put(s3, best)

    def replaced_once_read(request: Passed) -> bool:
        if request.command != "GET" or not request.path.endswith("card.json"):
            return False
        request.forward()
        s3.put(f"{uri}/card.json", with_licence(best, "CC-BY-NC-4.0"))
        return True

    proxy.fault = replaced_once_read
    assert load_encoder(uri).card == card_of(best)


def test_a_new_card_for_the_same_weights_holds_at_once(s3: ObjectStore, best: Path):
    uri = put(s3, best)
    load_card(uri)
    s3.put(f"{uri}/card.json", with_licence(best, "CC-BY-NC-4.0"))
    with pytest.raises(LicenceRefused, match="CC-BY-NC"):
        load_encoder(uri)


def test_a_licence_is_looked_at_before_weights_are_fetched(
    s3: ObjectStore, cache: Path, tmp_path: Path
):
    uri = put(s3, saved(tmp_path / "nc", licence="CC-BY-NC-4.0"))
    with pytest.raises(LicenceRefused, match="CC-BY-NC"):
        load_encoder(uri)
    assert not cache.exists()
    load_encoder(uri, EncoderOptions(allow_licences=("cc-by-nc-4.0",)))


def test_a_bucket_that_is_not_there(s3: ObjectStore):
    with pytest.raises(ModelError, match="can't be read: NoSuchBucket"):
        load_card("s3://no-such-bucket/best")


def test_a_secret_in_a_uri_is_refused_and_not_repeated():
    with pytest.raises(SettingError) as caught:
        load_card("s3://key:geheim@bucket/best")
    assert "geheim" not in str(caught.value)


def test_no_room_for_a_copy(
    s3: ObjectStore, best: Path, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MICROTOME_MODELS_FOLDER", str(tiny_disk))
    with pytest.raises(ModelError, match="No space left") as caught:
        load_card(put(s3, best))
    assert str(tiny_disk) not in caught.value.message
    assert "MICROTOME_MODELS_FOLDER" in caught.value.remedy
    assert not list(tiny_disk.iterdir())


def test_commands_take_it_where_they_take_a_folder(s3: ObjectStore, best: Path):
    uri = put(s3, best)
    shown = CliRunner().invoke(app, ["show", uri, "--json"])
    assert json.loads(shown.stdout)["model_id"] == card_of(best).model_id
    cost = CliRunner().invoke(app, ["profile", uri, "--json"])
    assert json.loads(cost.stdout)["rows"][0]["model"] == uri
