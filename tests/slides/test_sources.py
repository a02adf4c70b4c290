"""Which slides a SOURCE holds, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from microtome.errors import (
    DuplicateSlideId,
    SettingError,
    SourceNotFound,
    SourceUnreadable,
)
from microtome.slides.sources import find_slides
from microtome.slides.storage import refuse_secrets
from support.dicom_files import write_dicom
from support.object_store import ObjectStore, forget_stores

SERIES = "1.2.826.0.1.111"
OTHER_SERIES = "1.2.826.0.1.222"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def ids(*sources: object) -> list[str]:
    return [ref.slide_id for ref in find_slides([str(source) for source in sources]).refs]


def test_a_folder_is_searched_through_and_slides_are_named_by_their_path(tmp_path):
    touch(tmp_path, "b.svs", "a/deep/c.NDPI", "a/d.ome.tif", "notes.txt", "a/label.jpg")
    assert ids(tmp_path) == ["a/d.ome.tif", "a/deep/c.NDPI", "b.svs"]


def test_a_file_is_called_by_its_name_whatever_its_extension(tmp_path):
    touch(tmp_path, "x/slide.dat")
    assert ids(tmp_path / "x/slide.dat") == ["slide.dat"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("site*/*.svs", ["site1/a.svs", "site2/b.svs"]),
        ("site*/*", ["site1/a.svs", "site1/deep/c.svs", "site2/b.svs"]),  # a folder matches too
        ("site1/**/*.svs", ["a.svs", "deep/c.svs"]),  # named from the part before the wildcard
        ("site1/[ab].svs", ["a.svs"]),
    ],
)
def test_a_glob_names_slides_from_its_fixed_part(tmp_path, pattern, expected):
    touch(tmp_path, "site1/a.svs", "site1/deep/c.svs", "site2/b.svs", "site1/x.txt", "other/d.svs")
    assert ids(tmp_path / pattern) == expected


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    touch(tmp_path, "a[1].svs", "a1.svs")
    assert ids(tmp_path / "a[1].svs") == ["a[1].svs"]


def test_data_folders_of_mrxs_companions_of_vms_and_hidden_files_are_no_slides(tmp_path):
    touch(tmp_path, "a.mrxs", "a/Slidedat.ini", "a/odd.tif", "b.vms", "b.jpg", "b.opt", "._a.svs")
    touch(tmp_path, ".snapshot/a.svs")
    assert ids(tmp_path) == ["a.mrxs", "b.vms"]


def test_linked_folders_are_searched_and_a_circle_of_links_ends(tmp_path):
    touch(tmp_path / "archive", "a.svs")
    touch(tmp_path / "work", "b.svs")
    os.symlink(tmp_path / "archive", tmp_path / "work/linked")
    os.symlink(tmp_path / "work", tmp_path / "work/circle")
    assert ids(tmp_path / "work") == ["b.svs", "linked/a.svs"]


def test_a_slide_found_twice_counts_once_under_its_first_name(tmp_path):
    touch(tmp_path, "site/a.svs")
    assert ids(tmp_path, tmp_path / "site", tmp_path / "site/a.svs") == ["site/a.svs"]


def test_two_slides_with_one_name_are_refused_and_both_are_named(tmp_path):
    touch(tmp_path, "one/a.svs", "two/a.svs")
    with pytest.raises(DuplicateSlideId) as raised:
        ids(tmp_path / "one", tmp_path / "two")
    assert f"{tmp_path}/one/a.svs and {tmp_path}/two/a.svs" in raised.value.message


def test_messages_name_a_source_as_its_user_did(tmp_path, monkeypatch):
    touch(tmp_path, "one/a.svs", "two/a.svs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DuplicateSlideId, match=r"a\.svs: one/a\.svs and two/a\.svs"):
        ids("one", "two")


def test_the_stamp_changes_with_the_file(tmp_path):
    touch(tmp_path, "a.svs")
    (before,) = find_slides([str(tmp_path)]).refs
    os.utime(tmp_path / "a.svs", ns=(1, 2))
    (after,) = find_slides([str(tmp_path)]).refs
    assert after.stamp == "5-2"
    assert before.stamp != after.stamp


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(SourceNotFound, match="nothing lies at nowhere/at-all"):
        ids("nowhere/at-all")


def test_a_folder_without_slides_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(SourceNotFound, match=r"no slide lies at .*\.ndpi.*\.svs"):
        ids(tmp_path)


def test_a_dangling_link_stays_a_slide_that_will_fail_by_itself(tmp_path):
    touch(tmp_path, "a.svs")
    os.symlink(tmp_path / "gone.svs", tmp_path / "b.svs")
    assert ids(tmp_path) == ["a.svs", "b.svs"]


def test_a_dicom_series_is_one_slide_called_by_its_folder(tmp_path):
    for name in ("level-1.dcm", "level-0.dcm", "level-10.dcm"):
        write_dicom(tmp_path / "case/scan" / name, SERIES)
    (ref,) = find_slides([str(tmp_path)]).refs
    assert ref.slide_id == "case/scan"
    assert ref.uri == str(tmp_path / "case/scan/level-0.dcm")
    assert ids(tmp_path / "case/scan") == ["scan"]


def test_several_series_in_one_folder_are_told_apart(tmp_path):
    write_dicom(tmp_path / "scan/a.dcm", SERIES)
    write_dicom(tmp_path / "scan/b.dcm", OTHER_SERIES)
    write_dicom(tmp_path / "scan/c.dcm", SERIES)
    assert ids(tmp_path) == ["scan#111", "scan#222"]


def test_a_dicom_file_named_outright_is_its_series_under_the_files_name(tmp_path):
    write_dicom(tmp_path / "scan/a.dcm", SERIES)
    write_dicom(tmp_path / "scan/b.dcm", SERIES)
    (ref,) = find_slides([str(tmp_path / "scan/b.dcm")]).refs
    assert (ref.slide_id, ref.uri) == ("b.dcm", str(tmp_path / "scan/a.dcm"))
    assert ids(tmp_path, tmp_path / "scan/b.dcm") == ["scan"]


def test_a_file_that_only_claims_to_be_dicom_is_not_lost(tmp_path):
    write_dicom(tmp_path / "scan/a.dcm", SERIES)
    touch(tmp_path, "scan/text.dcm")
    assert ids(tmp_path) == ["scan", "scan/text.dcm"]


def test_a_bucket_is_listed_like_a_folder(s3: ObjectStore):
    bucket = s3.bucket(
        {"in/a.svs": b"aa", "in/deep/b.tif": b"b", "in/c.txt": b"c", "in2/d.svs": b""}
    )
    refs = find_slides([f"{bucket}/in"]).refs
    assert [(ref.slide_id, ref.uri) for ref in refs] == [
        ("a.svs", f"{bucket}/in/a.svs"),
        ("deep/b.tif", f"{bucket}/in/deep/b.tif"),
    ]
    assert refs[0].stamp.startswith("2-")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", ["in/a.svs", "in/deep/b.svs"]),
        ("/", ["in/a.svs", "in/deep/b.svs"]),
        ("/in/a.svs", ["a.svs"]),
        ("/in/*.svs", ["a.svs"]),
        ("/in/**/*.svs", ["a.svs", "deep/b.svs"]),
        ("/in/d*", ["deep/b.svs"]),
    ],
)
def test_files_and_globs_in_a_bucket(s3: ObjectStore, source, expected):
    bucket = s3.bucket({"in/a.svs": b"aa", "in/deep/b.svs": b"b"})
    assert ids(bucket + source) == expected


def test_a_dicom_series_in_a_bucket_is_one_slide(s3: ObjectStore, tmp_path):
    files = [write_dicom(tmp_path / f"scan/{name}.dcm", SERIES) for name in "ab"]
    bucket = s3.bucket({f"scan/{file.name}": file for file in files})
    (ref,) = find_slides([bucket]).refs
    assert (ref.slide_id, ref.uri) == ("scan", f"{bucket}/scan/a.dcm")


def test_an_empty_prefix_holds_no_slide(s3: ObjectStore):
    bucket = s3.bucket({"in/a.svs": b"a"})
    with pytest.raises(SourceNotFound, match=f"no slide lies at {bucket}/out"):
        ids(f"{bucket}/out")


def test_a_bucket_that_does_not_exist_is_unreadable(s3: ObjectStore):
    with pytest.raises(SourceUnreadable, match=r"s3://no-such-bucket-here .*NoSuchBucket"):
        ids("s3://no-such-bucket-here")


@pytest.fixture
def no_credentials(monkeypatch, tmp_path) -> Iterator[None]:
    """An environment that holds no key to any store."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_stores()
    yield
    forget_stores()


def test_a_store_without_credentials_is_unreadable(s3: ObjectStore, no_credentials):
    with pytest.raises(SourceUnreadable, match="AWS_ACCESS_KEY_ID"):
        ids("s3://some-bucket/in")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hunter2@bucket/in",
        "s3://AKIA:hunter2@more@bucket/in",
        "https://host/a.svs?X-Amz-Signature=hunter2",
    ],
)
def test_a_uri_with_a_secret_is_refused_and_not_repeated(uri):
    with pytest.raises(SettingError) as raised:
        ids(uri)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "uri", ["abfs://slides@account.dfs.core.windows.net/in", "s3://bucket/a:b@c.svs"]
)
def test_an_at_sign_alone_is_no_secret(uri):
    refuse_secrets(uri)


def test_an_unknown_protocol_is_a_setting_error():
    with pytest.raises(SettingError, match="nosuch://"):
        ids("nosuch://bucket/a.svs")
