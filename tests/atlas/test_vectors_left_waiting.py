"""What jobs that embed a further model leave when they are killed, and what maintenance takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from microtome.atlas import orphans
from microtome.atlas.atlas import Atlas
from microtome.atlas.backfill_plan import add_vector_column
from microtome.atlas.maintain import MaintainSettings, maintain
from microtome.atlas.objects import objects
from microtome.atlas.orphans import find_leftovers, remove_leftovers
from microtome.atlas.runs import RunTotals, finish_run
from microtome.atlas.staged import FOLDER, Staged, StagingTarget, VectorWriter, staging_table
from microtome.atlas.verify import verify
from microtome.atlas.writer import Writer, open_writer
from microtome.errors import LeaseLost
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
