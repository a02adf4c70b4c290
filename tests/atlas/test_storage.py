"""Folders and object stores: the same atlas, and no secret in sight."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from microtome.atlas.atlas import Atlas
from microtome.atlas.storage import storage_options, writing
from microtome.errors import AtlasError, AtlasNotFound, AtlasWriteFailed
from support.authority import authority
from support.faulty_store import Passed, faults_before
from support.made_atlas import MadeAtlas, content_id
from support.object_store import ObjectStore, running_store

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hunter2"}


@pytest.mark.parametrize(
    ("uri", "environ", "options"),
    [
        ("atlas", KEYS, {}),
        ("s3://b/a", {}, {}),
        ("s3://b/a", {"AWS_DEFAULT_REGION": "eu-west-1"}, {"aws_region": "eu-west-1"}),
        (
            "s3://b/a",
            {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-2"},
            {"aws_region": "eu-west-1"},
        ),
        ("s3://b/a", KEYS, {"aws_access_key_id": "key", "aws_secret_access_key": "hunter2"}),
        (  # a store of one's own: path-style, a region it doesn't ask for, TLS
            "s3://b/a",
            {"AWS_ENDPOINT_URL": "https://store"},
            {
                "aws_endpoint": "https://store",
                "aws_region": "us-east-1",
                "aws_virtual_hosted_style_request": "false",
            },
        ),
        (  # plain HTTP only where the endpoint says so
            "s3://b/a",
            {"AWS_ENDPOINT_URL": "http://store", "AWS_REGION": "x"},
            {
                "aws_endpoint": "http://store",
                "aws_region": "x",
                "aws_virtual_hosted_style_request": "false",
                "allow_http": "true",
            },
        ),
    ],
)
def test_options_come_from_the_usual_variables(uri: str, environ, options):
    assert storage_options(uri, environ) == options


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("LanceError(IO): No space left on device (os error 28), /rust/a.rs:1", "the disk is full"),
        ("... Permission denied (os error 13) ...", "writing there is not permitted"),
        ("Client error with status 403 Forbidden: <Error>", "the store refused the credentials"),
        ("LanceError(IO): odd: x, /rust/b.rs:7", "odd: x"),
    ],
)
def test_a_refusal_is_told_in_a_few_words(said: str, told: str):
    with pytest.raises(AtlasWriteFailed) as caught, writing("atlas", "tiles"):
        raise OSError(said)
    assert caught.value.message == f"tiles could not be written to the atlas atlas: {told}"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with running_store() as store, pytest.MonkeyPatch.context() as environment:
        for name, value in store.variables.items():
            environment.setenv(name, value)
        yield store


def test_an_atlas_in_a_bucket_is_like_one_in_a_folder(store: ObjectStore):
    made = MadeAtlas(f"{store.bucket()}/atlas")
    made.committer.commit([made.done("a", "old"), made.failed("f"), made.done("b")])
    made.committer.commit([made.done("a", "new", tiles=3)])
    assert made.state() == {
        "a": (content_id("new"), 3, "done", 3),
        "b": (content_id("b"), 5, "done", 5),
        "f": ("", 0, "failed", 0),
    }
    assert Atlas.open(made.uri).table("tiles").count_rows() == 8


BEHIND_A_FIREWALL = """
import sys
sys.path.insert(0, sys.argv[1])
from support.made_atlas import MadeAtlas
made = MadeAtlas(sys.argv[2])
made.committer.commit([made.done("a")])
print(made.atlas.tiles.count_rows())
"""


def test_a_store_with_a_profile_and_an_authority_of_the_site_s_own(
    store: ObjectStore, tmp_path: Path
):
    bundle, tls = authority(tmp_path)
    (tmp_path / "credentials").write_text(
        "[lab]\naws_access_key_id = LABKEY\naws_secret_access_key = hunter2\n"
    )
    keys: set[str] = set()

    def look(request: Passed) -> None:
        keys.add(request.headers["Authorization"].partition("Credential=")[2].partition("/")[0])

    with faults_before(store.endpoint, tls) as proxy:
        proxy.fault = look
        ran = subprocess.run(
            [
                sys.executable,
                "-c",
                BEHIND_A_FIREWALL,
                str(Path(__file__).parents[1]),
                f"{store.bucket()}/atlas",
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
            env={
                "PATH": os.environ["PATH"],
                "AWS_ENDPOINT_URL": proxy.endpoint,
                "AWS_CA_BUNDLE": str(bundle),
                "AWS_PROFILE": "lab",
                "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            },
        )
    assert (ran.returncode, ran.stdout) == (0, "5\n"), ran.stderr
    assert keys == {"LABKEY"}
    assert "hunter2" not in ran.stderr


def test_an_empty_place_in_a_bucket_is_no_atlas(store: ObjectStore):
    with pytest.raises(AtlasNotFound):
        Atlas.open(f"{store.bucket()}/nothing")


def test_a_missing_bucket_is_said(store: ObjectStore):
    with pytest.raises(AtlasError, match="s3://no-such-bucket-here/atlas"):
        Atlas.open("s3://no-such-bucket-here/atlas")


def test_a_file_in_the_way_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(AtlasError, match="a file stands where a folder should be"):
        MadeAtlas(str(tmp_path / "file" / "atlas"))


def test_a_damaged_table_is_said(tmp_path: Path):
    MadeAtlas(str(tmp_path))
    for manifest in (tmp_path / "tiles.lance" / "_versions").iterdir():
        manifest.write_bytes(b"junk")
    with pytest.raises(AtlasError, match=r"the table tiles of .* one of its files is damaged"):
        Atlas.open(str(tmp_path))


def test_paths_that_the_user_did_not_name_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AtlasWriteFailed) as caught, writing("atlas", "tiles"):
        raise OSError(f"odd: /{tmp_path}/atlas/tiles.lance")
    assert caught.value.message.endswith(": odd: atlas/tiles.lance")
