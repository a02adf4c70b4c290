"""Vectors of other programs, in the layouts that they write."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from microtome.errors import DatasetNotFound, MicrotomeError, SettingError, VectorsInvalid
from microtome.evaluation.contenders import Asked, gather
from microtome.evaluation.cosines import directions
from microtome.evaluation.protocols import PROTOCOLS
from microtome.evaluation.vectors_file import read_vectors

VECTORS = np.array([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]])
UNIT = [[0.6, 0.8], [0.0, 1.0], [1.0, 0.0]]
LABELS = ["b", "a", "b"]


def with_value(value: float, row: int) -> np.ndarray:
    """The vectors with one value exchanged."""
    vectors = VECTORS.copy()
    vectors[row, 0] = value
    return vectors


def npz(folder: Path, **arrays: object) -> str:
    path = folder / "given.npz"
    np.savez(path, **arrays)
    return str(path)


def table(folder: Path, **columns: object) -> str:
    path = folder / "given.parquet"
    parquet.write_table(pa.table(columns), path)
    return str(path)


def slide(path: Path, features: np.ndarray, coords: int | None = None) -> None:
    """A slide's file as TRIDENT and CLAM write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"] = features
        if coords is not None:
            file["coords"] = np.zeros((coords, 2), np.int64)


def labels(folder: Path, *rows: str, header: str = "slide_id,label") -> str:
    path = folder / "slides.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_npz(tmp_path: Path) -> None:
    path = npz(tmp_path, vectors=VECTORS, labels=LABELS, groups=["p", "q", ""], splits=list("xyx"))

    given = read_vectors(path)

    np.testing.assert_allclose(given.vectors, UNIT, rtol=1e-6)
    assert given.vectors.dtype == np.float32
    assert given.collection.classes == ("a", "b")
    assert given.collection.labels.tolist() == [1, 0, 1]
    assert given.collection.groups == ("p", "q", None)
    assert given.collection.splits == ("x", "y", "x")
    assert given.collection.name == "given.npz"


@pytest.mark.parametrize(
    "column",
    [
        pa.array(VECTORS.tolist()),
        pa.array(VECTORS.tolist(), pa.list_(pa.float32(), 2)),
        pa.array(VECTORS.tolist(), pa.large_list(pa.float64())),
    ],
    ids=["list", "fixed-size list", "large list"],
)
def test_parquet(tmp_path: Path, column: pa.Array) -> None:
    path = table(tmp_path, embedding=column, label=[2, 1, 2], case_id=["p", None, "q"])

    given = read_vectors(path)

    np.testing.assert_allclose(given.vectors, UNIT, rtol=1e-6)
    assert given.collection.classes == ("1", "2")
    assert given.collection.groups == ("p", None, "q")
    assert given.columns["case_id"] == ["p", None, "q"]


def test_what_isn_t_asked_for_may_be_of_any_shape(tmp_path: Path) -> None:
    more = {"coords": np.zeros((9, 2)), "mpp": np.float64(0.5), "site": list("uvw")}
    path = npz(tmp_path, vectors=VECTORS, label=LABELS, made_by=np.array([{}]), **more)

    assert read_vectors(path).collection.classes == ("a", "b")
    assert read_vectors(path, group="site").columns["site"] == ["u", "v", "w"]
    for column, problem in (("mpp", "one value for each vector"), ("made_by", "can't be read")):
        with pytest.raises(VectorsInvalid, match=problem):
            read_vectors(path, group=column)
    ragged = table(tmp_path, vector=VECTORS.tolist(), label=LABELS, cells=[[1], [], [1, 2]])
    assert len(read_vectors(ragged).collection) == 3


def test_a_column_that_isn_t_there_is_no_group(tmp_path: Path) -> None:
    path = npz(tmp_path, vectors=VECTORS, label=LABELS, site=list("uvw"))
    for wanted in ("nobody", "vectors"):
        with pytest.raises(SettingError, match=f"no column '{wanted}'") as caught:
            gather(Asked(PROTOCOLS["folder"], vectors=path, group=wanted), lambda *_: int)
        assert "label, site" in caught.value.remedy


def test_bytes_are_text(tmp_path: Path) -> None:
    path = npz(tmp_path, vectors=VECTORS, label=np.array(LABELS, "S1"), group=[b"p", b"q", b""])
    given = read_vectors(path)
    assert given.collection.classes == ("a", "b")
    assert given.collection.groups == ("p", "q", None)
    with pytest.raises(VectorsInvalid, match="label holds bytes that aren't UTF-8"):
        read_vectors(npz(tmp_path, vectors=VECTORS, label=[b"a", b"\xff", b"b"]))


def test_of_a_path_its_last_two_parts_are_shown(tmp_path: Path) -> None:
    paths = ["/home/somebody/set/a/1.png", r"C:\Users\somebody\b\2.png", "s3://bucket/set/c/3.png"]
    given = read_vectors(table(tmp_path, vector=VECTORS.tolist(), label=LABELS, path=paths))
    assert given.collection.names == ("a/1.png", "b/2.png", "c/3.png")


def test_vectors_of_unit_length_are_not_copied_to_be_compared() -> None:
    given = np.asarray(UNIT, np.float32)
    assert directions(given, "x") is given


def test_trident_s_tile_features_become_a_vector_of_each_slide(tmp_path: Path) -> None:
    folder = tmp_path / "features_uni_v1"
    slide(folder / "s1.h5", np.array([[10.0, 0.0], [0.0, 0.1]]), coords=2)  # lengths don't count
    slide(folder / "s2.h5", np.array([[0.0, 3.0]]), coords=1)
    slide(folder / "unlabelled.h5", np.array([[1.0, 1.0]]), coords=1)
    rows = labels(tmp_path, "s1,lung,p,1", "s2,skin,q,2", header="slide_id,label,case_id,site")

    given = read_vectors(str(folder), rows)

    np.testing.assert_allclose(given.vectors, [[0.5**0.5, 0.5**0.5], [0, 1]], atol=1e-6)
    assert given.collection.names == ("s1", "s2")
    assert given.collection.groups == ("p", "q")
    assert given.columns["site"] == ["1", "2"]
    assert given.collection.notes == ("1 slides have no label and were left out: unlabelled",)


def test_a_slide_s_name_that_isn_t_utf_8_is_shown_escaped(tmp_path: Path) -> None:
    slide(tmp_path / "h5" / "s1.h5", np.ones((1, 2)))
    slide(tmp_path / "h5" / os.fsdecode(b"caf\xe9.h5"), np.ones((1, 2)))
    given = read_vectors(str(tmp_path / "h5"), labels(tmp_path, "s1,lung"))
    assert given.collection.notes == (r"1 slides have no label and were left out: caf\udce9",)


def test_trident_s_slide_vectors_are_taken_as_they_are(tmp_path: Path) -> None:
    slide(tmp_path / "s1.h5", np.array([3.0, 4.0]))
    given = read_vectors(str(tmp_path / "s1.h5"), labels(tmp_path, "s1,lung"))
    np.testing.assert_allclose(given.vectors, [[0.6, 0.8]], rtol=1e-6)


def test_clam_s_folder_is_read_past_its_pickles(tmp_path: Path) -> None:
    slide(tmp_path / "h5_files" / "s1.h5", np.ones((1, 3, 2)), coords=3)  # a batch of one
    (tmp_path / "pt_files").mkdir()
    (tmp_path / "pt_files" / "s1.pt").write_bytes(b"a pickle")
    slide(tmp_path / "patches" / "s1.h5", np.ones((1, 9)))
    given = read_vectors(str(tmp_path), labels(tmp_path, "s1,lung"))
    assert given.vectors.shape == (1, 2)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"vectors": VECTORS}, "not both vectors and labels"),
        ({"vectors": VECTORS, "labels": ["a", "b"]}, "3 vectors, but 2 of labels"),
        ({"vectors": VECTORS[0], "labels": ["a", "b"]}, r"shape \(N, D\)"),
        ({"vectors": VECTORS.astype(str), "labels": LABELS}, r"numbers of shape"),
        ({"vectors": with_value(np.nan, 1), "labels": LABELS}, "NaN or infinity: row 1"),
        ({"vectors": with_value(np.inf, 2), "labels": LABELS}, "NaN or infinity: row 2"),
        (
            {"vectors": VECTORS * [[0], [1], [1]], "labels": LABELS},
            "only zeros, the first in row 0",
        ),
        ({"vectors": VECTORS, "labels": ["a", "", "b"]}, "1 of 3 vectors have no label"),
        ({"vectors": VECTORS, "labels": np.ones((3, 2))}, "labels must be one value for each"),
        ({"vectors": np.array([{}, {}, {}]), "labels": LABELS}, "can't be read"),
        ({"vectors": VECTORS[:0], "labels": []}, r"shape \(N, D\)"),
    ],
)
def test_arrays_that_don_t_fit_are_refused(
    tmp_path: Path, arrays: dict[str, object], problem: str
) -> None:
    with pytest.raises(VectorsInvalid, match=problem):
        read_vectors(npz(tmp_path, **arrays))


def test_lists_of_different_lengths_are_refused(tmp_path: Path) -> None:
    for rows in ([[1.0], [1.0, 2.0]], [[1.0], None]):
        with pytest.raises(VectorsInvalid, match="of different lengths, or missing"):
            read_vectors(table(tmp_path, vectors=rows, label=["a", "b"]))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["s1,a", "s9,b"], "names 1 slides without a file in .*: s9"),
        (["s1,a", "s1,b"], "or two of one"),
        ([",a"], "without a slide_id"),
        (["s1,"], "1 of 1 vectors have no label"),
    ],
)
def test_labels_that_don_t_fit_the_slides_are_refused(
    tmp_path: Path, rows: list[str], problem: str
) -> None:
    slide(tmp_path / "h5" / "s1.h5", np.ones((2, 2)), coords=2)
    with pytest.raises(VectorsInvalid, match=problem):
        read_vectors(str(tmp_path / "h5"), labels(tmp_path, *rows))


@pytest.mark.parametrize(
    ("features", "coords", "problem"),
    [
        (np.ones((2, 2)), 3, "2 features, but 3 coords"),
        (np.array([[1.0, np.nan]]), 1, "1 of the 1 vectors of s1.h5 hold NaN"),
        (np.ones((0, 2)), 0, r"s1.h5: vectors must be .*\(N, D\)"),
        (np.ones((2, 2, 2)), 2, r"\(N, D\)"),
    ],
    ids=["coords", "NaN", "no tiles", "three dimensions"],
)
def test_features_that_don_t_fit_are_refused(
    tmp_path: Path, features: np.ndarray, coords: int, problem: str
) -> None:
    slide(tmp_path / "s1.h5", features, coords)
    with pytest.raises(VectorsInvalid, match=problem):
        read_vectors(str(tmp_path / "s1.h5"), labels(tmp_path, "s1,lung"))


@pytest.mark.parametrize("coords", [np.zeros(2), None], ids=["one dimension", "a group"])
def test_coords_of_another_layout_are_refused(tmp_path: Path, coords: np.ndarray | None) -> None:
    slide(tmp_path / "s1.h5", np.ones((2, 2)))
    with h5py.File(tmp_path / "s1.h5", "a") as file:
        if coords is None:
            file.create_group("coords")
        else:
            file["coords"] = coords
    with pytest.raises(VectorsInvalid, match=r"s1.h5: coords must be an array of shape \(N, 2\)"):
        read_vectors(str(tmp_path / "s1.h5"), labels(tmp_path, "s1,lung"))


def test_two_encoders_in_one_folder_are_refused(tmp_path: Path) -> None:
    slide(tmp_path / "uni" / "s1.h5", np.ones((1, 2)))
    slide(tmp_path / "conch" / "s2.h5", np.ones((1, 3)))
    rows = labels(tmp_path, "s1,a", "s2,b")
    with pytest.raises(VectorsInvalid, match="vectors of 2 and 3 values"):
        read_vectors(str(tmp_path), rows)
    slide(tmp_path / "conch" / "s1.h5", np.ones((1, 3)))
    with pytest.raises(VectorsInvalid, match="two files for s1"):
        read_vectors(str(tmp_path), rows)


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    broken = {name: tmp_path / name for name in ("a.npz", "a.parquet", "a.h5")}
    for path in broken.values():
        path.write_bytes(b"nothing of the kind")
    rows = labels(tmp_path, "a,lung")
    (tmp_path / "other").mkdir()
    other = labels(tmp_path / "other", "b,lung")

    def cause(name: str, given: str | None = None) -> type[MicrotomeError]:
        with pytest.raises(MicrotomeError) as caught:
            read_vectors(str(tmp_path / name), given)
        return type(caught.value)

    assert {cause("a.npz"), cause("a.parquet"), cause("a.h5", rows)} == {VectorsInvalid}
    assert {cause("b.npz"), cause("b.h5", other), cause("b", other)} == {DatasetNotFound}
    assert {cause("a.h5"), cause("a.npz", rows)} == {SettingError}  # labels lacking, or too many
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").touch()
    assert cause("empty", rows) is SettingError
