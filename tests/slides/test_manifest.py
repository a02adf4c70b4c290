"""What a manifest adds to the slides that were found, and what it is refused for."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from microtome.atlas.schema import SLIDES, TILES
from microtome.errors import ManifestError, SourceNotFound
from microtome.slides.manifest import RESERVED
from microtome.slides.slide import SlideRef
from microtome.slides.sources import Selection, find_slides
from support.dicom_files import write_dicom
from support.object_store import ObjectStore


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Three slides, a.svs, b.svs and deep/c.svs, in a folder beside the manifest's."""
    for name in ("a.svs", "b.svs", "deep/c.svs"):
        path = tmp_path / "slides" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "slides"


def select(slides: Path, text: str) -> Selection:
    manifest = slides.parent / "manifest.csv"
    manifest.write_text(text, encoding="utf-8")
    return find_slides([str(slides)], str(manifest))


def by_id(selection: Selection) -> dict[str, SlideRef]:
    return {ref.slide_id: ref for ref in selection.refs}


def test_types_are_inferred_and_keys_stay_text(slides):
    selection = select(
        slides,
        "slide_id,case_id,mpp,site,age,score_a,her2,taken\n"
        "a.svs,0012,0.25,colon,61,1.5,true,2024-03-01\n"
        "b.svs,0013,,lung,,2,false,\n",
    )
    kinds = {field.name: str(field.type) for field in selection.columns}
    assert kinds == {
        "site": "string",
        "age": "int64",
        "score_a": "double",
        "her2": "bool",
        "taken": "string",
    }
    first = by_id(selection)["a.svs"]
    assert (first.case_id, first.mpp) == ("0012", 0.25)
    assert dict(first.columns) == {
        "site": "colon",
        "age": 61,
        "score_a": 1.5,
        "her2": True,
        "taken": "2024-03-01",
    }


def test_slides_that_the_manifest_does_not_list_are_taken_with_nulls(slides):
    other = by_id(select(slides, "slide_id,site\na.svs,colon\n"))["deep/c.svs"]
    assert (other.case_id, other.mpp, dict(other.columns)) == (None, None, {"site": None})


@pytest.mark.parametrize("cell", ["", "NA", "nan", "null"])
def test_the_usual_ways_to_say_nothing_are_null(slides, cell):
    ref = by_id(select(slides, f"slide_id,mpp,case_id,age\na.svs,{cell},{cell},{cell}\n"))["a.svs"]
    assert (ref.mpp, ref.case_id, ref.columns["age"]) == (None, None, None)


@pytest.mark.parametrize("number", ["inf", "-inf"])
def test_numbers_that_are_not_finite_are_null(slides, number):
    refs = by_id(select(slides, f"slide_id,score_a\na.svs,{number}\nb.svs,1.5\n"))
    assert (refs["a.svs"].columns["score_a"], refs["b.svs"].columns["score_a"]) == (None, 1.5)


def test_a_parquet_nan_is_null(slides):
    manifest = slides.parent / "manifest.parquet"
    parquet.write_table(pa.table({"slide_id": ["a.svs"], "ratio": [float("nan")]}), manifest)
    assert by_id(find_slides([str(slides)], str(manifest)))["a.svs"].columns["ratio"] is None


@pytest.mark.parametrize("uri", ["slides/a.svs", "./slides/a.svs", "{slides}/a.svs"])
def test_a_uri_is_relative_to_the_manifest_or_as_it_was_found(slides, uri):
    text = f"uri,site\n{uri.format(slides=slides)},colon\n"
    assert by_id(select(slides, text))["a.svs"].columns["site"] == "colon"


def test_a_uri_with_an_id_names_the_slide(slides):
    selection = select(slides, "uri,slide_id\nslides/deep/c.svs,S-0001\n")
    assert set(by_id(selection)) == {"a.svs", "b.svs", "S-0001"}


@pytest.mark.parametrize("uri", ["slides/scan", "slides/scan/a.dcm", "slides/scan/b.dcm"])
def test_a_dicom_series_is_meant_by_its_folder_or_any_of_its_files(slides, uri):
    for name in ("a", "b"):
        write_dicom(slides / f"scan/{name}.dcm", "1.2.3")
    assert by_id(select(slides, f"uri,case_id\n{uri},007\n"))["scan"].case_id == "007"


def test_ids_of_the_manifest_tell_slides_of_one_name_apart(slides):
    (slides / "deep/a.svs").write_bytes(b"another")
    manifest = slides.parent / "manifest.csv"
    manifest.write_text("uri,slide_id\nslides/deep/a.svs,second\n")
    selection = find_slides([str(slides), str(slides / "deep")], str(manifest))
    assert set(by_id(selection)) == {"a.svs", "b.svs", "second", "deep/c.svs"}


def test_parquet_types_are_made_plain(slides):
    table = pa.table(
        {
            "slide_id": ["a.svs", "b.svs"],
            "grade": pa.array([1, None], pa.int8()),
            "ratio": pa.array([0.5, 1.5], pa.float32()),
            "stain": pa.array(["HE", "HE"]).dictionary_encode(),
            "day": [dt.date(2024, 3, 1), None],
            "at": [dt.datetime(2024, 3, 1, 12, 30), None],
        }
    )
    manifest = slides.parent / "manifest.parquet"
    parquet.write_table(table, manifest)
    selection = find_slides([str(slides)], str(manifest))
    assert [str(kind) for kind in selection.columns.types] == [
        *("int64", "double", "string", "string", "string")
    ]
    assert list(by_id(selection)["a.svs"].columns.values()) == [
        *(1, 0.5, "HE", "2024-03-01", "2024-03-01T12:30:00")
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("slide,site\na.svs,x\n", "neither a column uri nor slide_id, but slide, site"),
        ("slide_id;site\na.svs;x\n", "neither a column uri nor slide_id"),
        ("", "can't be read"),
        ("slide_id,site\na.svs\n", "can't be read: CSV parse error"),
        ("slide_id,site,Site\na.svs,x,y\n", "two columns called 'site'"),
        ("slide_id,tissue\na.svs,colon\n", "column 'tissue' is a name that the atlas uses"),
        ("slide_id,Vector_a\na.svs,colon\n", "column 'Vector_a' is a name that the atlas uses"),
        ("slide_id,a.b\na.svs,colon\n", "column 'a.b' can't be a column's name"),
        ("slide_id,site\n,colon\n", "row 1 names no slide"),
        ("slide_id,mpp\na.svs,0.5\nb.svs,thick\n", r"mpp of row 2 \(b\.svs\) .*not 'thick'"),
        ("slide_id,mpp\na.svs,0\n", r"mpp of row 1 \(a\.svs\) .*not 0"),
        ("slide_id,mpp\na.svs,-0.5\n", "not -0.5"),
        ("slide_id,mpp\na.svs,inf\n", "not inf"),
        ("slide_id,mpp\na.svs,true\n", "not True"),
        ("slide_id\na.svs\na.svs\n", r"row 1 \(a\.svs\) and row 2 \(a\.svs\) name one slide"),
        ("slide_id\nz.svs\n", r"names 1 that no SOURCE holds: row 1 \(z\.svs\)"),
        ("uri\nslides/z.svs\n", r"row 1 \(slides/z\.svs\)"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_row_or_column(slides, text, complaint):
    with pytest.raises(ManifestError, match=complaint):
        select(slides, text)


@pytest.mark.parametrize(
    "name",
    [
        *("attempts", "bytes_read", "cause", "message"),
        *("planned_tiles", "seconds", "status", "stored_tiles", "Status"),
    ],
)
def test_a_column_that_the_ledger_would_overwrite_is_to_be_renamed(slides, name):
    with pytest.raises(ManifestError, match=f"column '{name}' is a name that") as raised:
        select(slides, f"slide_id,{name}\na.svs,positive\n")
    assert "Rename the column" in raised.value.remedy


def test_at_most_five_unknown_slides_are_listed(slides):
    rows = "".join(f"z{number}.svs\n" for number in range(9))
    with pytest.raises(ManifestError, match=r"z4\.svs\) and 4 more"):
        select(slides, "slide_id\n" + rows)


def test_a_column_of_lists_is_refused_by_name(slides):
    manifest = slides.parent / "manifest.parquet"
    parquet.write_table(pa.table({"slide_id": ["a.svs"], "genes": [["TP53"]]}), manifest)
    with pytest.raises(ManifestError, match="column 'genes' is of type list"):
        find_slides([str(slides)], str(manifest))


def test_text_that_is_not_utf8_is_refused_by_column(slides):
    manifest = slides.parent / "manifest.csv"
    manifest.write_bytes("slide_id,site\na.svs,Köln\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="column 'site'"):
        find_slides([str(slides)], str(manifest))


def test_a_missing_manifest_is_named(slides):
    with pytest.raises(SourceNotFound, match=r"no-such\.csv"):
        find_slides([str(slides)], "no-such.csv")


def test_a_manifest_in_a_bucket_names_what_lies_beside_it(s3: ObjectStore):
    bucket = s3.bucket({"in/a.svs": b"a", "in/list.csv": b"uri,case_id\na.svs,007\n"})
    (ref,) = find_slides([f"{bucket}/in"], f"{bucket}/in/list.csv").refs
    assert ref.case_id == "007"


def test_every_column_of_the_atlas_is_reserved():
    assert set(TILES.names) | set(SLIDES.names) <= RESERVED
