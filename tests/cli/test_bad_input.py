"""Bad input as whoever types a command meets it: what it says, where, and with which exit code.

Nothing here starts Ray: whatever can be known to be wrong is known before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from microtome import cli
from microtome.atlas.atlas import Atlas
from microtome.atlas.runs import start_run
from microtome.atlas.writer import open_writer
from microtome.config import GridSettings
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.registry import load_card
from support.made_atlas import open_or_create
from support.object_store import ObjectStore

cli.load_apps()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in, with two folders that each hold a slide `a.svs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ray.init", _no_ray)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.svs").write_text(f"the slide of {name}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("no slide")
    return tmp_path


def _no_ray(**options: object) -> None:
    pytest.fail("the command started Ray")


def microtome(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words))


def error_of(done: Result) -> dict[str, Any]:
    """The error that a script reads, after what holds for every error."""
    assert done.exit_code == 1, done.output
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    assert set(error) == {"cause", "message", "remedy"}
    assert not error["message"].endswith(".")
    assert str(Path.cwd()) not in done.output  # the user named nothing by its absolute path
    return error


# SOURCEs, cause, what the message names
@pytest.mark.parametrize(
    ("sources", "cause", "names"),
    [
        (["nowhere/a.svs"], "source-not-found", ["nowhere/a.svs"]),
        (["one", "nowhere"], "source-not-found", ["nowhere"]),
        (["empty"], "source-not-found", ["empty"]),
        (["notes"], "source-not-found", ["notes"]),
        (["one/*.ndpi"], "source-not-found", ["one/*.ndpi"]),
        (["one", "two"], "duplicate-slide-id", ["a.svs", "one/a.svs", "two/a.svs"]),
    ],
)
def test_sources_that_give_no_clear_list_of_slides(
    here: Path, sources: list[str], cause: str, names: list[str]
) -> None:
    error = error_of(microtome("index", *sources, "--atlas", "atlas", "--json"))

    assert error["cause"] == cause
    assert all(name in error["message"] for name in names)
    assert error["remedy"]
    assert not (here / "atlas").exists()


# manifest, what its error names beside the file itself
@pytest.mark.parametrize(
    ("text", "cause", "names"),
    [
        ("slide_id,site\nz.svs,north\n", "manifest", ["z.svs", "row 1"]),
        ("slide_id,mpp\na.svs,thick\n", "manifest", ["a.svs", "mpp", "'thick'"]),
        ("slide_id,site\na.svs\n", "manifest", ["2 columns"]),
        ("slide,site\na.svs,north\n", "manifest", ["uri", "slide_id"]),
    ],
)
def test_a_manifest_that_is_wrong(here: Path, text: str, cause: str, names: list[str]) -> None:
    (here / "list.csv").write_text(text)

    error = error_of(microtome("index", "one", "--atlas", "a", "--manifest", "list.csv", "--json"))

    assert error["cause"] == cause
    assert all(name in error["message"] for name in ["list.csv", *names])
    assert error["remedy"]
    assert not (here / "a").exists()


def test_a_manifest_that_gives_two_slides_one_id(here: Path) -> None:
    (here / "list.csv").write_text("uri,slide_id\none/a.svs,S1\ntwo/a.svs,S1\n")
    words = ["index", "one", "two", "--atlas", "atlas", "--manifest", "list.csv", "--json"]

    error = error_of(microtome(*words))

    assert error["cause"] == "duplicate-slide-id"
    assert all(name in error["message"] for name in ["S1", "one/a.svs", "two/a.svs"])


@pytest.fixture
def atlas(here: Path) -> str:
    """An atlas of the default grid and model, with a text column `site` and no slides."""
    columns = pa.schema([("site", pa.string())])
    open_or_create("atlas", GridSettings(), load_card("tissue"), columns)
    return "atlas"


def test_a_manifest_column_of_another_type_than_the_atlas_has(here: Path, atlas: str) -> None:
    (here / "list.csv").write_text("slide_id,site\na.svs,7\n")

    words = ["index", "one", "--atlas", atlas, "--manifest", "list.csv", "--json"]
    error = error_of(microtome(*words))

    assert error["cause"] == "atlas-mismatch"
    assert all(name in error["message"] for name in ["'site'", "int64", "string", "atlas"])
    assert error["remedy"]


@pytest.mark.parametrize("command", [["index", "one"], ["search", "crop.png"]])
def test_a_model_folder_whose_vectors_the_atlas_does_not_hold(
    here: Path, atlas: str, command: list[str]
) -> None:
    Image.new("RGB", (64, 64)).save("crop.png")
    _write_other_model(here / "other")

    error = error_of(microtome(*command, "--atlas", atlas, "--model", "other", "--json"))

    assert error["cause"] == "model-mismatch"
    assert "tissue" in error["message"]
    assert "other" in error["message"]
    assert error["remedy"]


def _write_other_model(folder: Path, licence: str = "Apache-2.0") -> ModelCard:
    from microtome.models.backbone import WeightSource
    from microtome.models.checkpoint import save_checkpoint
    from microtome.models.lgffem import LGFFEM, LgffemConfig

    config = LgffemConfig("test_resnet", neck_channels=8, neck_layers=1)
    card = ModelCard(
        name="other",
        architecture=config.to_architecture(),
        preprocessing=Preprocessing(64),
        dim=config.dim,
        weights_sha256="",
        licence=licence,
    )
    return save_checkpoint(folder, LGFFEM(config, WeightSource("random")), card)


def test_a_model_under_a_licence_that_nobody_allowed(here: Path) -> None:
    _write_other_model(here / "other", "CC-BY-NC-4.0")

    error = error_of(microtome("index", "one", "--atlas", "atlas", "--model", "other", "--json"))

    assert error["cause"] == "licence-refused"
    assert all(name in error["message"] for name in ["other", "CC-BY-NC-4.0"])
    assert not (here / "atlas").exists()


# what the indexing run allowed, flags of the search, how the search ends
@pytest.mark.parametrize(
    ("allowed", "flags", "cause"),
    [
        ([], [], "licence-refused"),
        ([], ["--model", "other"], "licence-refused"),
        (["MIT"], [], "licence-refused"),
        (["cc-by-nc-4.0"], [], None),
        (["cc-by-nc-4.0"], ["--model", "other"], None),
        ([], ["--allow-licence", "cc-by-nc-4.0"], None),
        ([], ["--allow-licence", "MIT", "--allow-licence", "CC-BY-NC-4.0"], None),
    ],
)
def test_a_query_is_embedded_under_licences_allowed_now_or_for_indexing(
    here: Path, allowed: list[str], flags: list[str], cause: str | None
) -> None:
    Image.new("RGB", (64, 64)).save("crop.png")
    card = _write_other_model(here / "other", "CC-BY-NC-4.0")
    settings = {"model": "other", "allow_licences": allowed}
    with open_writer("atlas", "test") as writer:
        Atlas.open_or_create(writer, GridSettings(), card, pa.schema([]))
        start_run(writer, "index", settings, card)

    done = microtome("search", "crop.png", "--atlas", "atlas", "--json", *flags)

    if cause is None:
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["hits"] == []
    else:
        assert error_of(done)["cause"] == cause


@pytest.mark.parametrize("content", [None, b"", b"cut short"])
def test_a_model_folder_without_sound_weights(here: Path, content: bytes | None) -> None:
    _write_other_model(here / "other")
    (here / "other" / "weights.safetensors").unlink()
    if content is not None:
        (here / "other" / "weights.safetensors").write_bytes(content)

    error = error_of(microtome("index", "one", "--atlas", "atlas", "--model", "other", "--json"))

    assert error["cause"] == "checkpoint-invalid"
    assert all(name in error["message"] for name in ["weights.safetensors", "other"])
    assert error["remedy"]
    assert not (here / "atlas").exists()


@pytest.mark.parametrize(
    ("name", "cause"), [("empty", "checkpoint-invalid"), ("nowhere", "model-not-found")]
)
def test_a_model_that_is_none(here: Path, name: str, cause: str) -> None:
    error = error_of(microtome("index", "one", "--atlas", "atlas", "--model", name, "--json"))

    assert error["cause"] == cause
    assert name in error["message"]
    assert "card.json" in error["remedy"]
    assert not (here / "atlas").exists()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("tissue >", "ends too early"),
        ("site = 'north", "a quote is not closed"),
        ("organ = 'skin'", "there is no column organ"),
    ],
)
def test_a_filter_that_is_none_is_quoted_and_the_columns_are_told(
    atlas: str, where: str, says: str
) -> None:
    error = error_of(microtome("search", "0" * 32, "--atlas", atlas, "--where", where, "--json"))

    assert error["cause"] == "filter-invalid"
    assert repr(where) in error["message"]
    assert says in error["message"]
    assert "site" in error["remedy"]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n and no more"])
def test_a_query_image_that_is_no_image(here: Path, atlas: str, content: bytes) -> None:
    (here / "crop.png").write_bytes(content)

    error = error_of(microtome("search", "crop.png", "--atlas", atlas, "--json"))

    assert error["cause"] == "query-unreadable"
    assert "crop.png" in error["message"]
    assert "image file (PNG" in error["remedy"]


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ("missing.png", "query-unreadable"),
        ("one/a.svs", "query-unreadable"),
        ("one/a.svs#0,0,9,9", "unreadable"),
        ("nowhere.svs#0,0,9,9", "query-unreadable"),
        ("0" * 32, "tile-not-found"),
    ],
)
def test_a_query_for_what_is_not_there_is_named(atlas: str, query: str, cause: str) -> None:
    error = error_of(microtome("search", query, "--atlas", atlas, "--json"))

    assert error["cause"] == cause
    assert query.partition("#")[0] in error["message"]
    assert error["remedy"]


def test_a_bucket_of_slides_that_can_not_be_listed(s3: ObjectStore, here: Path) -> None:
    error = error_of(microtome("index", "s3://no-such-bucket/in", "--atlas", "atlas", "--json"))

    assert error["cause"] == "source-unreadable"
    assert "s3://no-such-bucket/in" in error["message"]
    assert "AWS_ACCESS_KEY_ID" in error["remedy"]


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (["index", "one"], "atlas-write-failed"),
        (["search", "0" * 32], "atlas"),
        (["slides"], "atlas"),
        (["info"], "atlas"),
    ],
)
def test_an_atlas_in_a_bucket_that_is_not_there(
    s3: ObjectStore, here: Path, command: list[str], cause: str
) -> None:
    error = error_of(microtome(*command, "--atlas", "s3://no-such-bucket/atlas", "--json"))

    assert error["cause"] == cause
    assert "s3://no-such-bucket/atlas" in error["message"]
    assert error["remedy"]
    assert "test-secret" not in json.dumps(error)


def test_an_atlas_that_another_job_writes_to(here: Path) -> None:
    with open_writer("atlas", "maintain"):
        done = microtome("index", "one", "--atlas", "atlas", "--json")

    assert done.exit_code == 1
    error = error_of(done)
    assert error["cause"] == "atlas-busy"
    assert "another job writes to the atlas atlas: maintain on " in error["message"]


def test_without_json_the_error_goes_to_stderr_in_two_sentences(here: Path) -> None:
    done = microtome("index", "nowhere", "--atlas", "atlas")

    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == "error: nothing lies at nowhere\nCheck the spelling.\n"


def test_a_folder_that_the_demo_can_not_write_to_is_named(here: Path) -> None:
    (here / "file").write_text("in the way")

    done = microtome("demo", "--folder", "file", "--json")

    error = json.loads(done.stdout)["error"]
    assert done.exit_code == 2
    assert error["message"] == "the demo can't write to the folder file: Not a directory"
    assert "--folder" in error["remedy"]
