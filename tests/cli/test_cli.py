"""The command line as scripts and people meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from microtome import cli
from microtome.config import apply_storage

cli.load_apps()


def microtome(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from microtome import cli; cli.load_apps(); "
        "from typer.testing import CliRunner; "
        "assert CliRunner().invoke(cli.app, ['--help']).exit_code == 0; "
        "print([m for m in ('ray', 'torch', 'lancedb', 'lance') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["index", "search", "slides", "info", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    help_text = microtome(command, "--help")

    assert help_text.exit_code == 0
    assert "Usage" in help_text.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mpp", "0"], "mpp"),
        (["--tile-px", "5"], "tile_px"),
        (["--stride-px", "0"], "stride_px"),
        (["--min-tissue", "1.5"], "min_tissue"),
        (["--assume-mpp", "-1"], "assume_mpp"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_made(
    tmp_path: Path, words: list[str], says: str
) -> None:
    done = microtome("index", tmp_path, "--atlas", tmp_path / "atlas", "--json", *words)

    assert done.exit_code == 2
    assert says in json.loads(done.stdout)["error"]["message"]
    assert not (tmp_path / "atlas").exists()


def test_a_missing_source_is_named_with_a_remedy(tmp_path: Path) -> None:
    done = microtome("index", "nowhere/at/all", "--atlas", tmp_path / "atlas", "--json")

    error = json.loads(done.stdout)["error"]
    assert done.exit_code == 1
    assert error["cause"] == "source-not-found"
    assert "nowhere/at/all" in error["message"]


def test_an_empty_folder_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    done = microtome("index", tmp_path / "empty", "--atlas", tmp_path / "atlas", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["cause"] == "source-not-found"


@pytest.mark.parametrize("command", [["search", "0" * 32], ["slides"], ["info"]])
def test_reading_an_atlas_that_is_not_there(tmp_path: Path, command: list[str]) -> None:
    done = microtome(*command, "--atlas", tmp_path / "none", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["cause"] == "atlas-not-found"


def test_settings_come_from_a_file_and_flags_win(tmp_path: Path) -> None:
    (tmp_path / "index.toml").write_text('tile-px = 5\natlas = "a"\n')
    words = ["index", str(tmp_path), "--config", str(tmp_path / "index.toml"), "--json"]

    from_file = microtome(*words)
    from_flag = microtome(*words, "--tile-px", "6")

    assert "not 5" in json.loads(from_file.stdout)["error"]["message"]
    assert "not 6" in json.loads(from_flag.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.toml", "tile-pxx = 5", "tile_pxx"),
        ("a.yaml", "tile_pxx: 5", "tile_pxx"),
        ("a.toml", "tile-px =", "no valid TOML"),
        ("a.yaml", "a: [", "no valid YAML"),
        ("a.yaml", "- 1", "one table"),
        ("a.ini", "x", ".toml"),
    ],
)
def test_a_wrong_settings_file_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)

    done = microtome("index", "x", "--atlas", "y", "--config", tmp_path / name)

    assert done.exit_code == 2
    assert says in done.output.replace("\n", "")


@pytest.mark.parametrize("line", ['secret_access_key = "hunter2"', "endpoint = 5", 'bucket = "b"'])
def test_a_settings_file_holds_no_secrets_of_the_storage(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.toml").write_text(f"[storage]\n{line}\n")

    done = microtome("info", "--atlas", "y", "--config", tmp_path / "a.toml")

    assert done.exit_code == 2
    assert "AWS_SECRET_ACCESS_KEY" in done.output
    assert "hunter2" not in done.output


def test_the_variables_win_over_the_settings_file() -> None:
    variables = {"AWS_ENDPOINT_URL": "https://mine", "AWS_PROFILE": ""}

    apply_storage("a.toml", {"endpoint": "https://its", "profile": "lab"}, variables)

    assert variables == {"AWS_ENDPOINT_URL": "https://mine", "AWS_PROFILE": "lab"}


def test_version() -> None:
    from microtome import __version__

    assert __version__ in microtome("--version").output
