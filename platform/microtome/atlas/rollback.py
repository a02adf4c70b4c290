"""Going back to what the atlas was before a run.

Old versions aren't restored as they were, since a restored version would show for a moment what
was forgotten since. Each table gets one commit instead that names the old fragments, those with
rows of forgotten slides written anew without them. In this order, so that the ledger never
claims tiles that aren't there:

1. `work`    what was so then and is so still;
2. `tiles`   as they were;
3. `slides`  as they were;
4. `work`    as it was;
5. `runs`    keeps all its rows; what was undone is `rolled-back`.

A rollback stands in `runs` from its beginning, so whoever writes next finishes one that was
killed (`finish`), by doing all of it again. Indices of the tables that changed are to be built
anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc

from microtome.atlas.forgetting import names_in, scrub
from microtome.atlas.forgotten import Forgotten
from microtome.atlas.rewriting import fragments_with, rewritten, written
from microtome.atlas.run_names import run_meant
from microtome.atlas.runs import RunTotals, finish_run, start_run
from microtome.atlas.sql import one_of, quoted
from microtome.atlas.tables import newest_table
from microtome.atlas.versions import State, forgotten_in, states, version_of
from microtome.atlas.writer import Writer
from microtome.errors import AtlasVersionNotFound

COMMAND = "rollback"
LASTING = "forget"  # what no rollback undoes
UNDONE = "rolled-back"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollback would do.

    Attributes:
        run_id: the run to undo.
        state: what the atlas was before it; None where it was the first.
        undone: rows of `runs`, oldest first: that run and those after it, but what they forgot
            stays forgotten.
    """

    run_id: str
    state: State | None
    undone: tuple[Mapping[str, Any], ...]

    @property
    def later(self) -> list[str]:
        """Ids of the runs that are undone too."""
        return [run["run_id"] for run in self.undone if run["run_id"] != self.run_id]


def plan_rollback(uri: str, run_id: str) -> Plan:
    """What undoing a run means.

    Args:
        uri: of the atlas.
        run_id: the run's id, or so much of its beginning as only it has, 8 characters or more.

    Raises:
        AtlasVersionNotFound: there is no such run, it can't be undone, or the state before it is
            no longer kept.
        AtlasError: a table can't be read.
    """
    runs = newest_table(uri, "runs").to_table(columns=["run_id", "command", "status"]).to_pylist()
    asked = _asked(uri, run_id, runs)
    run_id = asked["run_id"]
    if asked["command"] == LASTING:
        raise AtlasVersionNotFound(
            f"the run {run_id} of the atlas {uri} forgot a slide, which can't be undone",
            remedy="Name another run.",
        )
    if asked["status"] == UNDONE:
        raise AtlasVersionNotFound(
            f"the run {run_id} of the atlas {uri} has been rolled back already",
            remedy="To have it again, roll back the run that did so.",
        )
    return _plan(uri, run_id, runs)


def roll_back(writer: Writer, run_id: str) -> Plan:
    """Return all tables to what they were before a run; after `recover`.

    Raises:
        AtlasVersionNotFound: see `plan_rollback`.
        AtlasWriteFailed: the store refuses; the next writer goes on from there.
    """
    plan = plan_rollback(writer.uri, run_id)
    own_id = start_run(writer, COMMAND, {"run": plan.run_id})
    _carry_out(writer, plan, own_id)
    return plan


def finish(writer: Writer) -> None:
    """Carry out a rollback that was killed; nothing can have happened since.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    where = f"command = {quoted(COMMAND)} AND status = 'running'"
    runs = newest_table(writer.uri, "runs").to_table()
    killed = newest_table(writer.uri, "runs").to_table(filter=where)
    for run in killed.to_pylist():
        earlier = runs.filter(pc.less(runs["run_id"], run["run_id"])).to_pylist()
        plan = _plan(writer.uri, json.loads(run["settings"])["run"], earlier)
        _carry_out(writer, plan, run["run_id"])


def _asked(uri: str, name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    by_id = {str(run["run_id"]): run for run in runs}
    meant = run_meant(uri, name, by_id)
    if meant is None:
        raise AtlasVersionNotFound(
            f"the atlas {uri} knows no run {name}",
            remedy=f"`microtome info --atlas {uri}` lists its runs.",
        )
    return by_id[meant]


def _plan(uri: str, run_id: str, runs: list[dict[str, Any]]) -> Plan:
    runs.sort(key=lambda run: str(run["run_id"]))
    undone = [
        run
        for run in runs
        if run["run_id"] >= run_id and run["command"] != LASTING and run["status"] != UNDONE
    ]
    before = [run["run_id"] for run in runs if run["run_id"] < run_id]
    return Plan(run_id, _state_after(uri, before[-1], run_id) if before else None, tuple(undone))


def _state_after(uri: str, previous: str, run_id: str) -> State:
    for state in states(uri):
        if state.run_id == previous:
            return state
    raise AtlasVersionNotFound(
        f"the atlas {uri} no longer keeps what it was before the run {run_id}",
        remedy=f"`microtome versions --atlas {uri}` lists what it keeps.",
    )


def _carry_out(writer: Writer, plan: Plan, own_id: str) -> None:
    uri = writer.uri
    then = plan.state.versions if plan.state else None
    forgotten = Forgotten.of(uri)
    gone = forgotten_in(uri, then, forgotten) if then else []
    slide_ids = {row["slide_id"] for row in gone if forgotten.names(**_of_slide(row))}
    work = _ledger_then(uri, then, gone, forgotten)
    _write_ledger(writer, _unchanged(uri, work))
    for table in ("tiles", "slides"):
        _bring_back(writer, table, then, slide_ids)
    _write_ledger(writer, work)
    _mark(writer, plan, then)
    finish_run(writer, own_id, "finished", RunTotals())


def _of_slide(row: Mapping[str, Any]) -> dict[str, Any]:
    """What tells that a slide was forgotten, and not just a failed look at the same bytes."""
    if "case_id" in row:  # of `slides`
        return {name: row[name] for name in ("slide_id", "content_id", "case_id")}
    return {"slide_id": row["slide_id"]}


def _ledger_then(
    uri: str,
    then: Mapping[str, int] | None,
    gone: list[Mapping[str, Any]],
    forgotten: Forgotten,
) -> list[dict[str, Any]]:
    """Rows of `work` as they were, without what was forgotten and without its names."""
    if then is None:
        return []
    left_out = {(row["slide_id"], row["content_id"]) for row in gone}
    names = names_in(gone, forgotten)
    return [
        row | {"message": scrub(row["message"], names)}
        for row in version_of(uri, then, "work").to_table().to_pylist()
        if (row["slide_id"], row["content_id"]) not in left_out
    ]


def _unchanged(uri: str, then: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = {(row["work_id"], row["finished_at"]) for row in then}
    now = newest_table(uri, "work").to_table().to_pylist()
    return [row for row in now if (row["work_id"], row["finished_at"]) in known]


def _write_ledger(writer: Writer, rows: list[dict[str, Any]]) -> None:
    """Have these rows in `work`, and no others."""
    if _by_key(rows) == _by_key(newest_table(writer.uri, "work").to_table().to_pylist()):
        return

    def operation(dataset: lance.LanceDataset) -> lance.LanceOperation.BaseOperation:
        table = pa.Table.from_pylist(rows, schema=dataset.schema)
        return lance.LanceOperation.Overwrite(dataset.lance_schema, written(dataset, table))

    writer.commit("work", operation)


def _by_key(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["work_id"]))


def _bring_back(writer: Writer, table: str, then: Mapping[str, int] | None, gone: set[str]) -> None:
    """Have the rows of an old version in a table, but for those of forgotten slides."""
    now = newest_table(writer.uri, table)
    old = version_of(writer.uri, then, table) if then else None
    fragments = _fragments(old, gone) if old is not None else []
    schema = now.lance_schema if old is None else old.lance_schema
    same_columns = old is None or old.schema.equals(now.schema, check_metadata=True)
    if same_columns and _facts(fragments) == _facts(f.metadata for f in now.get_fragments()):
        return  # its indices stay
    writer.commit(table, lambda _: lance.LanceOperation.Overwrite(schema, fragments))


def _fragments(old: lance.LanceDataset, gone: set[str]) -> list[lance.FragmentMetadata]:
    """Fragments with the rows of a version; files that also hold others are written anew."""
    leaving = one_of("slide_id", gone)
    touched = set(fragments_with(old, leaving)) if gone else set()
    kept: list[lance.FragmentMetadata] = []
    for fragment in old.get_fragments():
        if fragment.fragment_id not in touched and fragment.metadata.deletion_file is None:
            kept.append(fragment.metadata)
        else:  # Lance lets an Overwrite name no fragment with deletions
            kept += rewritten(old, fragment, f"NOT ({leaving})")
    return kept


def _facts(fragments: Iterable[lance.FragmentMetadata]) -> list[tuple[list[str], bool]]:
    return [
        ([file.path for file in fragment.files], fragment.deletion_file is not None)
        for fragment in fragments
    ]


def _mark(writer: Writer, plan: Plan, then: Mapping[str, int] | None) -> None:
    """Say of every run whether it is undone; a rollback that is rolled back brings some back."""
    columns = ["run_id", "status"]
    now = newest_table(writer.uri, "runs")
    status = dict.fromkeys((run["run_id"] for run in plan.undone), UNDONE)
    if then:
        undone_now = set(now.to_table(filter=f"status = {quoted(UNDONE)}")["run_id"].to_pylist())
        for run in version_of(writer.uri, then, "runs").to_table(columns=columns).to_pylist():
            if run["run_id"] in undone_now and run["status"] != UNDONE:
                killed = run["status"] == "running"
                status[run["run_id"]] = "interrupted" if killed else run["status"]
    rows = [{"run_id": run_id, "status": word} for run_id, word in status.items()]
    part = pa.schema([now.schema.field(name) for name in columns])
    writer.upsert("runs", pa.Table.from_pylist(rows, schema=part), insert=False)
