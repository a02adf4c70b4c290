"""`microtome model` as scripts and people meet it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from microtome import cli
from microtome.models.backbone import TimmNetwork, WeightSource, create_timm
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.cgd import CGD, CgdConfig
from microtome.models.checkpoint import save_checkpoint
from microtome.models.lgffem import LGFFEM, LgffemConfig
from microtome.models.registry import EncoderOptions, load_encoder
from support.published_lgffem import make_head, make_neck

UNTRAINED = WeightSource("random")


def model(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["model", *(str(word) for word in words)])


def as_json(*words: str | Path) -> dict:
    done = model(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def error_of(*words: str | Path) -> tuple[int, str]:
    done = model(*words, "--json")
    return done.exit_code, json.loads(done.stdout)["error"]["message"]


def save_cgd(folder: Path, licence: str = "Apache-2.0") -> ModelCard:
    config = CgdConfig("test_resnet", dim=8)
    card = ModelCard(
        "small", config.to_architecture(), Preprocessing(64), 8, "", licence=licence, notes="A try."
    )
    return save_checkpoint(folder, CGD(config, UNTRAINED), card)


def save_long(folder: Path, licence: str) -> None:
    config = LgffemConfig("test_resnet", neck_channels=8, neck_layers=1, matryoshka_dims=(8, 16))
    card = ModelCard(
        "long", config.to_architecture(), Preprocessing(64), config.dim, "", licence=licence
    )
    save_checkpoint(folder, LGFFEM(config, UNTRAINED), card)


@pytest.mark.parametrize("command", ["list", "show", "profile", "convert"])
def test_every_command_explains_itself_by_example(command: str) -> None:
    text = model(command, "--help").output

    assert "Examples:" in text
    assert f"microtome model {command}" in text


def test_list_names_what_ships_and_what_else_there_is() -> None:
    rows = as_json("list")["models"]

    assert [row["name"] for row in rows[:3]] == ["tissue", "starter", "statistics"]
    assert {"timm:NAME", "timm:NAME@file:PATH.safetensors"} <= {row["name"] for row in rows}


def test_list_finds_checkpoints_and_says_which_are_broken(tmp_path: Path) -> None:
    card = save_cgd(tmp_path / "runs" / "1" / "best")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "card.json").write_text("{")

    broken, best = as_json("list", tmp_path)["models"][-2:]

    assert (broken["kind"], Path(broken["name"]).name) == ("broken", "broken")
    assert best["name"] == str(tmp_path / "runs" / "1" / "best")
    assert (best["kind"], best["dim"], best["model_id"]) == ("cgd", 8, card.model_id)


def test_list_of_a_folder_that_is_not_there() -> None:
    assert error_of("list", "nowhere") == (1, "there is no folder nowhere to look for models in")


@pytest.mark.parametrize("licence", ["Apache-2.0", "cc-by-nc-4.0"])  # reading a card is no use
def test_show_prints_the_card(tmp_path: Path, licence: str) -> None:
    card = save_cgd(tmp_path / "model", licence)

    facts = as_json("show", tmp_path / "model")
    text = model("show", tmp_path / "model").output

    assert (facts["model_id"], facts["licence"]) == (card.model_id, licence)
    assert facts["architecture"]["descriptors"] == "SG"
    assert all(words in text for words in (card.model_id, licence, "8 values", "A try."))


def test_show_refuses_a_tampered_model(tmp_path: Path) -> None:
    save_cgd(tmp_path / "model")
    weights = tmp_path / "model" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    code, message = error_of("show", tmp_path / "model")

    assert code == 1
    assert "aren't the ones its card was written for" in message


def test_profile_lists_the_published_table() -> None:
    rows = as_json("profile", "cgd")["rows"]

    assert len(rows) == 8
    assert rows[2] == {
        "backbone": "resnet50",
        "classes": 11318,
        "params": "49.85M",
        "flops": "10.69G",
    }


def test_profile_measures_a_folder_without_its_weights(tmp_path: Path) -> None:
    save_cgd(tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").unlink()

    (row,) = as_json("profile", tmp_path / "model")["rows"]

    assert row["input_px"] == 64
    assert row["params"].endswith("K")


def test_profile_prints_a_table() -> None:
    text = model("profile", "timm:resnet18@random:0").output

    assert "Params | FLOPs" in text
    assert "11.18M" in text


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., list[str | Path]]:
    """A made checkpoint of the published model with its settings, as `convert` takes them."""

    def make(backbone: str = "test_resnet", channels: int = 16) -> list[str | Path]:
        texts = (
            f"BACKBONE: {{MODEL_NAME: {backbone}, OUT_INDICES: [0, 1, 2, 3]}}\n"
            "NECK: {IN_CHANNELS: [32, 32, 48, 192]}",
            f"NECK: {{NUM_CHANNELS: {channels}, NUM_LAYERS: 2}}",
            "HEAD:\n    P: 4.6\n    EPS: 1e-6",
        )
        files = [tmp_path / name for name in ("backbone.yaml", "neck.yaml", "head.yaml")]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        neck, head = make_neck((32, 32, 48, 192), 16, 2), make_head(16)
        content = {"model_neck_state_dict": neck, "model_head_state_dict": head}
        torch.save(content, tmp_path / "best.pth")
        return [tmp_path / "best.pth", tmp_path / "out", "--settings", *files]

    return make


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    """Weights of the backbone in a file."""
    from safetensors.torch import save_file

    network = create_timm(TimmNetwork("test_resnet"), UNTRAINED)
    save_file(network.state_dict(), tmp_path / "backbone.safetensors")
    return f"file:{tmp_path / 'backbone.safetensors'}"


def test_convert_makes_a_model_that_embeds(tmp_path: Path, published, backbone: str) -> None:
    card = as_json("convert", *published(), "--backbone", backbone)["card"]

    encoder = load_encoder(str(tmp_path / "out"), EncoderOptions(allow_licences=("unknown",)))
    assert encoder.card.model_id == card["model_id"]
    assert card["licence"] == "Apache-2.0 AND unknown"
    assert card["architecture"]["reference"] is True
    tiles = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(tiles), axis=1), 1, atol=1e-6)


def test_convert_takes_the_licence_its_author_gives(published, backbone: str) -> None:
    words = [*published(), "--backbone", backbone, "--licence", "Apache-2.0"]

    assert as_json("convert", *words)["card"]["licence"] == "Apache-2.0"


def test_convert_names_a_wrong_setting_and_writes_nothing(tmp_path: Path, published) -> None:
    code, message = error_of("convert", *published(channels=12))

    assert code == 2
    assert "NECK.NUM_CHANNELS in" in message
    assert "neck.yaml" in message
    assert not (tmp_path / "out").exists()


def test_convert_refuses_a_backbone_under_a_non_commercial_licence(tmp_path: Path, published):
    words = published(backbone="convnextv2_tiny.fcmae")
    text = words[3].read_text().replace("[32, 32, 48, 192]", "[96, 192, 384, 768]")
    words[3].write_text(text)

    refused, message = error_of("convert", *words, "--backbone", "file:absent.safetensors")
    words += ["--backbone", "file:absent.safetensors", "--allow-licence", "cc-by-nc-4.0"]
    allowed, later = error_of("convert", *words)

    assert (refused, allowed) == (1, 1)
    assert "cc-by-nc-4.0" in message
    assert "no weights file absent.safetensors" in later


def test_convert_refuses_settings_that_are_not_the_checkpoints(published, backbone: str) -> None:
    code, message = error_of("convert", *published(channels=32), "--backbone", backbone)

    assert code == 1
    assert "best.pth has tensors of another shape" in message


def test_convert_shortens_a_model(tmp_path: Path) -> None:
    save_long(tmp_path / "long", licence="MIT")

    answer = as_json("convert", tmp_path / "long", tmp_path / "short", "--dim", "8")

    assert answer["card"]["dim"] == 8
    assert load_encoder(str(tmp_path / "short")).card.dim == 8


def test_convert_shortens_no_model_whose_licence_was_not_allowed(tmp_path: Path) -> None:
    save_long(tmp_path / "long", licence="CC-BY-NC-4.0")
    words = ["convert", tmp_path / "long", tmp_path / "short", "--dim", "8"]

    code, message = error_of(*words)
    assert (code, "CC-BY-NC-4.0" in message) == (1, True)
    assert not (tmp_path / "short").exists()
    assert as_json(*words, "--allow-licence", "CC-BY-NC-4.0")["card"]["licence"] == "CC-BY-NC-4.0"


# words after SOURCE OUT_FOLDER, what the error says
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "either --settings"),
        (["--dim", "8", "--settings", "a", "b", "c"], "either --settings"),
        (["--settings", "a", "b", "c", "--backbone", "x.pth"], "the weights 'x.pth'"),
    ],
)
def test_convert_with_flags_that_do_not_fit(tmp_path: Path, words: list[str], says: str) -> None:
    code, message = error_of("convert", tmp_path / "in.pth", tmp_path / "out", *words)

    assert code == 2
    assert says in message


def test_convert_writes_no_model_to_a_store(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    code, message = error_of("convert", "long", "s3://bucket/short", "--dim", "8")

    assert (code, "s3://bucket/short" in message) == (2, True)
    assert not list(tmp_path.iterdir())


def test_convert_writes_over_neither_a_file_nor_its_source(tmp_path: Path) -> None:
    save_cgd(tmp_path / "model")
    (tmp_path / "file").touch()

    assert error_of("convert", tmp_path / "model", tmp_path / "file", "--dim", "4")[0] == 2
    assert error_of("convert", tmp_path / "model", tmp_path / "model", "--dim", "4")[0] == 2
