"""Corrections of a manifest reach the slides and tiles that are in the atlas already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microtome.atlas.annotate import Annotated, annotate
from microtome.atlas.atlas import Atlas
from microtome.atlas.forgetting import Subject, forget
from microtome.atlas.schema import vector_column
from microtome.atlas.verify import verify
from microtome.atlas.writer import Writer
from microtome.errors import AtlasMismatch, ManifestError
from microtome.slides.manifest import read_manifest
from support.made_atlas import CARD, MadeAtlas

VECTOR = vector_column(CARD.model_id)


@pytest.fixture
def made(tmp_path: Path) -> MadeAtlas:
    """Three slides of case-1, lung, 61: five tiles each; the first two in one fragment."""
    made = MadeAtlas(str(tmp_path / "atlas"))
    made.committer.commit([made.done("a"), made.done("b"), made.failed("broken")])
    made.atlas.tiles.optimize.compact_files()
    made.committer.commit([made.done("c")])
    return made


def corrected(made: MadeAtlas, tmp_path: Path, text: str) -> Annotated:
    (tmp_path / "manifest.csv").write_text(text)
    return annotate(made.writer, read_manifest(str(tmp_path / "manifest.csv")))


def told(made: MadeAtlas, table: str, *columns: str) -> dict[str, tuple[Any, ...]]:
    """The values of each slide; tiles of one slide that differ fail."""
    rows = Atlas.open(made.uri).dataset(table).to_table(columns=["slide_id", *columns]).to_pylist()
    values = {row["slide_id"]: tuple(row[name] for name in columns) for row in rows}
    assert all(values[row["slide_id"]] == tuple(row[name] for name in columns) for row in rows)
    return values


def count(made: MadeAtlas, where: str) -> int:
    rows: int = Atlas.open(made.uri).tiles.count_rows(where)
    return rows


def test_named_slides_get_the_values_in_both_tables_and_others_keep_theirs(
    made: MadeAtlas, tmp_path: Path
):
    done = corrected(made, tmp_path, "slide_id,organ,case_id\na,skin,P-7\nc,lung,P-8\n")

    expected = {"a": ("skin", "P-7", 61), "b": ("lung", "case-1", 61), "c": ("lung", "P-8", 61)}
    assert told(made, "slides", "organ", "case_id", "age") == expected
    assert told(made, "tiles", "organ", "case_id", "age") == expected
    assert done.slides == {"organ": 1, "case_id": 2}
    assert done.tiles == {"organ": 5, "case_id": 10}
    assert (count(made, "organ = 'skin'"), count(made, "organ = 'lung'")) == (5, 10)


def test_no_slide_becomes_one_of_a_forgotten_case(made: MadeAtlas, tmp_path: Path):
    corrected(made, tmp_path, "slide_id,case_id\na,P-7\n")
    forget(made.writer, Subject(case_id="P-7"))
    before = told(made, "slides", "case_id", "organ")
    with pytest.raises(ManifestError, match=r"the case of .* was forgotten") as caught:
        corrected(made, tmp_path, "slide_id,case_id,organ\nb,case-1,skin\nc,P-7,skin\n")
    assert "P-7" not in str(caught.value)
    assert told(made, "slides", "case_id", "organ") == before


def test_filters_through_an_index_see_the_new_values(made: MadeAtlas, tmp_path: Path):
    made.atlas.tiles.create_scalar_index("organ", "BITMAP")

    corrected(made, tmp_path, "slide_id,organ\na,skin\nb,\n")

    assert [count(made, f"organ {is_}") for is_ in ("= 'skin'", "= 'lung'", "IS NULL")] == [5, 5, 5]


def test_an_empty_cell_takes_the_value_away_and_a_missing_column_does_not(
    made: MadeAtlas, tmp_path: Path
):
    corrected(made, tmp_path, "slide_id,age\na,\nb,70\n")

    assert told(made, "tiles", "age", "organ", "case_id") == {
        "a": (None, "lung", "case-1"),
        "b": (70, "lung", "case-1"),
        "c": (61, "lung", "case-1"),
    }


def test_a_column_may_be_emptied_altogether(made: MadeAtlas, tmp_path: Path):
    done = corrected(made, tmp_path, "slide_id,age\na,\nb,\nc,\n")
    assert done.tiles == {"age": 15}
    assert Atlas.open(made.uri).columns.field("age").type == "int64"


def test_a_new_column_is_added_with_its_type(made: MadeAtlas, tmp_path: Path):
    done = corrected(made, tmp_path, "slide_id,grade,score_mm\na,3,0.5\nc,1,\n")

    assert done.added == ("grade", "score_mm")
    assert told(made, "slides", "grade", "score_mm") == told(made, "tiles", "grade", "score_mm")
    assert told(made, "tiles", "grade", "score_mm") == {
        "a": (3, 0.5),
        "b": (None, None),
        "c": (1, None),
    }
    columns = Atlas.open(made.uri).columns
    assert [str(columns.field(name).type) for name in done.added] == ["int64", "double"]


def test_whole_numbers_go_into_a_column_of_numbers(made: MadeAtlas, tmp_path: Path):
    corrected(made, tmp_path, "slide_id,score_mm\na,0.5\n")
    corrected(made, tmp_path, "slide_id,score_mm\na,2\n")
    assert told(made, "tiles", "score_mm")["a"] == (2.0,)


def test_another_type_is_refused_and_nothing_is_written(made: MadeAtlas, tmp_path: Path):
    before = {name: made.atlas.dataset(name).version for name in ("slides", "tiles", "runs")}

    with pytest.raises(AtlasMismatch, match=r"'age' of .*manifest.csv holds string, .* int64"):
        corrected(made, tmp_path, "slide_id,age,organ\na,old,skin\n")

    assert before == {name: made.atlas.dataset(name).version for name in before}


def test_slides_that_the_atlas_has_not_are_told(made: MadeAtlas, tmp_path: Path):
    done = corrected(made, tmp_path, "slide_id,organ\nnobody,skin\nbroken,skin\na,skin\n")

    assert done.unknown == ("row 1 (nobody)", "row 2 (broken)")
    assert (done.named, done.slides) == (1, {"organ": 1})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("slide_id,organ\nnobody,skin\n", "names no slide of the atlas"),
        ("slide_id,organ\na,skin\na,liver\n", "name one slide"),
        ("uri,slide_id,organ\ns3://x/y.svs,a,skin\ns3://x/z.svs,b,liver\n", None),
    ],
)
def test_what_a_manifest_may_name(made: MadeAtlas, tmp_path: Path, text: str, reason: str | None):
    if reason is None:  # a slide that was moved is known by its name
        assert corrected(made, tmp_path, text).named == 2
        return
    with pytest.raises(ManifestError, match=reason):
        corrected(made, tmp_path, text)


def test_a_slide_is_named_by_its_place_relative_to_the_manifest(tmp_path: Path):
    made = MadeAtlas(str(tmp_path / "atlas"))
    place = str(tmp_path / "slides" / "a.svs")
    made.committer.commit([made.done("a", uri=place)])

    corrected(made, tmp_path, "uri,organ\nslides/a.svs,skin\n")
    assert told(made, "tiles", "organ") == {"a": ("skin",)}

    with pytest.raises(ManifestError, match="knows it as a"):
        corrected(made, tmp_path, "uri,slide_id,organ\nslides/a.svs,other,skin\n")


def test_vectors_rows_and_their_index_stay(made: MadeAtlas, tmp_path: Path):
    made.atlas.tiles.create_index(VECTOR, "IVF_FLAT", num_partitions=1, metric="cosine")
    columns = ["tile_id", "x", VECTOR]
    before = made.atlas.tiles.scanner(columns=columns, with_row_id=True).to_table()

    corrected(made, tmp_path, "slide_id,organ,grade\na,skin,1\nb,skin,2\nc,skin,3\n")

    assert made.atlas.tiles.scanner(columns=columns, with_row_id=True).to_table() == before
    (index,) = made.atlas.tiles.describe_indices()
    assert index.num_rows_indexed == 15


def test_what_is_so_already_is_not_written(made: MadeAtlas, tmp_path: Path):
    corrected(made, tmp_path, "slide_id,organ\na,skin\n")
    before = [made.atlas.dataset(name).get_fragments() for name in ("slides", "tiles")]

    again = corrected(made, tmp_path, "slide_id,organ\na,skin\n")

    assert (again.slides, again.tiles) == ({}, {})
    assert [
        [one.metadata for one in made.atlas.dataset(name).get_fragments()]
        for name in ("slides", "tiles")
    ] == [[one.metadata for one in fragments] for fragments in before]


def test_cut_short_before_any_commit_it_is_finished_by_the_same_command(
    made: MadeAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    repeat = Writer._repeat
    text = "slide_id,organ,grade\na,skin,4\nc,liver,\n"
    steps = cuts = 0
    told_apart: set[str] = set()

    class Cut(BaseException):
        pass

    def cut_at(left: int) -> Any:
        def stopping(self: Writer, *arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Cut
            return repeat(self, *arguments, **named)

        return stopping

    for steps in range(100):
        uri = str(tmp_path / f"atlas-{steps}")
        made = MadeAtlas(uri)
        made.committer.commit([made.done("a"), made.done("b"), made.done("c")])
        (tmp_path / "manifest.csv").write_text(text)
        manifest = read_manifest(str(tmp_path / "manifest.csv"))
        monkeypatch.setattr(Writer, "_repeat", cut_at(steps))
        try:
            annotate(made.writer, manifest)
        except Cut:
            cuts += 1
        monkeypatch.undo()
        told_apart |= {finding.check for finding in verify(uri, ours=True).broken}
        annotate(made.writer, manifest)
        expected = {"a": ("skin", 4), "b": ("lung", None), "c": ("liver", None)}
        assert told(made, "slides", "organ", "grade") == expected
        assert told(made, "tiles", "organ", "grade") == expected
        if cuts == steps:  # none was cut this time
            break
    assert 6 <= cuts < 99
    assert told_apart == {"columns"}


def test_the_run_is_written_down(made: MadeAtlas, tmp_path: Path):
    done = corrected(made, tmp_path, "slide_id,organ\na,skin\n")
    (run,) = made.atlas.runs.to_table(filter=f"run_id = '{done.run_id}'").to_pylist()
    assert (run["command"], run["status"], run["model_id"]) == ("annotate", "finished", "")
    assert "manifest.csv" in run["settings"]


def test_a_manifest_of_names_alone_changes_nothing(made: MadeAtlas, tmp_path: Path):
    done = corrected(made, tmp_path, "slide_id,mpp\na,0.5\n")
    assert (done.run_id, done.named) == ("", 1)
