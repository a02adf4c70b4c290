"""What jobs that embed a further model leave when they are killed, and what maintenance takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lance import LanceDataset

from microtome.atlas import orphans
from microtome.atlas.atlas import Atlas
from microtome.atlas.backfill_plan import add_vector_column
from microtome.atlas.maintain import MaintainSettings, maintain
from microtome.atlas.objects import objects
from microtome.atlas.orphans import find_leftovers, remove_leftovers
from microtome.atlas.runs import RunTotals, finish_run
from microtome.atlas.staged import Staged, StagingTarget, VectorWriter
from microtome.atlas.staging_tables import FOLDER, staging_table
from microtome.atlas.verify import verify
from microtome.atlas.writer import Writer, open_writer
from microtome.errors import AtlasDamaged, AtlasError, LeaseLost
from microtome.models.card import ModelCard
from support.made_atlas import CARD, MadeAtlas, content_id, tiles_of, vectors_of
from support.object_store import ObjectStore

OTHER = replace(CARD, name="other", weights_sha256="01")
TABLE = staging_table(OTHER.model_id)
DAYS = MaintainSettings()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return atlas_at(str(tmp_path / "atlas"))


def atlas_at(uri: str) -> str:
    """An atlas of two slides, which has a column for another model, without vectors."""
    made = MadeAtlas(uri)
    made.committer.commit([made.done("a"), made.done("b")])
    add_vector_column(made.writer, OTHER)
    finish_run(made.writer, made.run_id, "finished", RunTotals())
    made.release()
    return uri


@contextmanager
def embedding(uri: str, card: ModelCard = OTHER) -> Iterator[tuple[Writer, Staged]]:
    """What a job holds that embeds; it ends before its column is filled."""
    with open_writer(uri, "embed") as writer:
        yield writer, Staged(writer, card)


def written(uri: str, slide_id: str, card: ModelCard = OTHER) -> tuple[str, ...]:
    """What a worker wrote of one slide."""
    target = StagingTarget.of(Atlas.open(uri), card)
    vectors = VectorWriter(target, slide_id, content_id(slide_id))
    vectors.add(tiles_of(5).corners, vectors_of(slide_id, 5))
    return vectors.close()


def waiting(uri: str) -> list[str]:
    return objects(uri, FOLDER, "what waits").names()


def noted(uri: str) -> dict[str, str]:
    """What a proof says of leftovers, by table; it says nothing else."""
    report = verify(uri, vectors=True)
    assert report.holds
    assert {finding.check for finding in report.findings} <= {"leftovers"}
    return {finding.subject: finding.message for finding in report.findings}


def test_what_a_job_would_go_on_from_stays(uri: str):
    with embedding(uri) as (_, staged):
        staged.add(written(uri, "a"))
    maintain(uri, DAYS)
    assert noted(uri) == {}
    with embedding(uri) as (_, staged):
        assert staged.holds("a", content_id("a"), 5)


def test_what_a_worker_wrote_and_nobody_kept_goes(uri: str):
    with embedding(uri) as (_, staged):
        staged.add(written(uri, "a"))
        written(uri, "b")
    assert noted(uri).keys() == {TABLE}
    assert noted(uri)[TABLE].startswith("1 files of killed jobs")
    done = maintain(uri, DAYS)
    assert {step.name: step.did for step in done.steps}["leftovers"].startswith("1 files")
    assert noted(uri) == {}
    with embedding(uri) as (_, staged):
        assert staged.holds("a", content_id("a"), 5)


def test_what_waits_for_a_model_that_lacks_nothing_goes(uri: str):
    with embedding(uri, CARD) as (_, staged):  # killed before it let go of them
        staged.add(written(uri, "a", CARD))
    assert noted(uri).keys() == {staging_table(CARD.model_id)}
    maintain(uri, DAYS)
    assert noted(uri) == {}
    assert waiting(uri) == []


def test_they_go_from_a_bucket(s3: ObjectStore):
    uri = atlas_at(f"{s3.bucket()}/atlas")
    with embedding(uri, CARD) as (writer, staged):
        staged.add(written(uri, "a", CARD))
        assert remove_leftovers(writer)[staging_table(CARD.model_id)].size_bytes > 0
    assert waiting(uri) == []


def test_what_waits_for_a_model_that_is_gone_goes(uri: str):
    gone = replace(CARD, name="gone", weights_sha256="02")
    with embedding(uri, gone) as (_, staged):
        staged.add(written(uri, "a", gone))
    maintain(uri, DAYS)
    assert waiting(uri) == []


def test_what_a_worker_wrote_when_the_table_was_gone_goes(uri: str):
    written(uri, "a")
    assert waiting(uri) == [f"{OTHER.model_id}.lance"]
    assert noted(uri).keys() == {TABLE}
    maintain(uri, DAYS)
    assert waiting(uri) == []


def test_what_has_waited_too_long_goes(uri: str, monkeypatch: pytest.MonkeyPatch):
    with embedding(uri) as (_, staged):
        staged.add(written(uri, "a"))
    monkeypatch.setattr(orphans, "WAITING_S", 0.0)
    maintain(uri, DAYS)
    assert waiting(uri) == []


NEWEST, OLDEST, DATA = "_versions/*13.manifest", "_versions/*14.manifest", "data/*"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:10])


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, empty])
@pytest.mark.parametrize(
    ("what", "noticed"),  # by a proof and by maintenance, which read no vectors
    [(NEWEST, True), (OLDEST, True), (DATA, False)],
)
def test_what_is_damaged_goes(uri: str, what: str, noticed: bool, harm: Callable[[Path], None]):
    with embedding(uri) as (_, staged):
        staged.add(written(uri, "a"))
    (file,) = Path(uri, f"{TABLE}.lance").glob(what)
    harm(file)
    assert noted(uri).keys() == ({TABLE} if noticed else set())
    maintain(uri, DAYS)
    assert waiting(uri) == ([] if noticed else [f"{OTHER.model_id}.lance"])
    assert noted(uri) == {}
    with embedding(uri) as (_, staged):
        assert not staged.holds("a", content_id("a"), 5)
        staged.add(written(uri, "a"))
        assert len(staged.vectors(["a"])) == 5


@pytest.mark.parametrize("what", [NEWEST, DATA])
def test_a_job_embeds_anew_what_is_damaged(uri: str, what: str):
    with embedding(uri) as (_, staged):
        staged.add(written(uri, "a"))
    (file,) = Path(uri, f"{TABLE}.lance").glob(what)
    cut(file)
    with embedding(uri) as (_, staged):
        assert not staged.holds("a", content_id("a"), 5)
        staged.add(written(uri, "a"))
        assert len(staged.vectors(["a"])) == 5


def test_what_is_damaged_under_a_job_is_said_and_let_go_of(uri: str):
    with embedding(uri) as (_, staged):
        staged.add(written(uri, "a"))
        (file,) = Path(uri, f"{TABLE}.lance").glob(DATA)
        file.unlink()
        with pytest.raises(AtlasDamaged, match="one of its files is gone") as caught:
            staged.vectors(["a"])
    assert caught.value.remedy.startswith("Run the same command again")
    assert waiting(uri) == []


def test_what_cannot_be_read_for_another_reason_stays(uri: str, monkeypatch: pytest.MonkeyPatch):
    with embedding(uri) as (_, staged):
        staged.add(written(uri, "a"))

    def refused(*_: object) -> None:
        raise OSError("LanceError(IO): AccessDenied")

    monkeypatch.setattr(LanceDataset, "versions", refused)
    with pytest.raises(AtlasError, match="the store refused the credentials"):
        find_leftovers(uri)


def test_who_was_followed_while_it_kept_vectors_keeps_none(
    uri: str, monkeypatch: pytest.MonkeyPatch
):
    """It goes on when maintenance has removed what its workers wrote."""
    commit = Writer._commit

    def paused(*arguments: Any) -> None:
        monkeypatch.undo()
        stale._lease.release(clean=False)
        with open_writer(uri, "maintain") as writer:
            assert remove_leftovers(writer)[TABLE].files == 1
        commit(*arguments)

    with embedding(uri) as (stale, staged):
        fragments = written(uri, "a")
        monkeypatch.setattr(Writer, "_commit", paused)
        with pytest.raises(LeaseLost):
            staged.add(fragments)
    with embedding(uri) as (_, staged):
        assert not staged.holds("a", content_id("a"), 5)


def test_who_lost_the_lease_while_listing_removes_nothing(
    uri: str, monkeypatch: pytest.MonkeyPatch
):
    written(uri, "a")
    left = find_leftovers(uri)
    with open_writer(uri, "maintain") as writer:

        def taken_over(*_: object) -> None:
            raise LeaseLost("another job took over")

        monkeypatch.setattr(writer._lease, "check", taken_over)
        with pytest.raises(LeaseLost):
            remove_leftovers(writer)
    assert find_leftovers(uri) == left
    assert left[TABLE].files == 1
