"""The atlas as it was after each run: one Lance tag, the run's id, on all tables.

Tags are made table by table. Hence a state counts only when every table carries its tag, and what
a crash left half-made is settled by the next writer, before it changes anything (`finish_tags`):
if the newest run lacks its tag, the tables still are as that run left them and the tag is made
now, so a killed run gets one as well; other halves are dropped. So of two runs one after the
other, the first one's tag is the state that the second one found.

A state that holds what was forgotten since is never given out: forgetting wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import partial
from typing import Any

import lance
import pyarrow as pa

from microtome.atlas.forgotten import Forgotten
from microtome.atlas.run_names import run_meant, shortened
from microtome.atlas.schema import TABLES
from microtome.atlas.tables import newest_table, open_table
from microtome.atlas.writer import Writer
from microtome.errors import AtlasVersionNotFound

KEPT = 20


@dataclass(frozen=True, slots=True)
class State:
    """What the tables were like after one run.

    Attributes:
        run_id: the run.
        tagged_at: when the state was tagged, right after the run.
        versions: version of each table.
    """

    run_id: str
    tagged_at: datetime
    versions: Mapping[str, int]


def tag_run(writer: Writer, run_id: str) -> None:
    """Tag the tables as they are now; the last thing a run does.

    Raises:
        AtlasWriteFailed: the store refuses; the next writer makes the tag.
    """
    for table in TABLES:
        writer.transact(table, partial(_tag, run_id), unfenced=True)


def finish_tags(writer: Writer) -> None:
    """Settle what a crash left half-tagged; to be called before anything new starts.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    tagged = _tags(writer.uri)
    every = set().union(*tagged.values())
    halves = {run_id for run_id in every if any(run_id not in tagged[table] for table in TABLES)}
    last = max(
        newest_table(writer.uri, "runs").to_table(columns=["run_id"])["run_id"].to_pylist(),
        default=None,
    )
    drop_tags(writer, halves - {last})
    if last is not None and (last in halves or last not in every):
        tag_run(writer, last)


def drop_tags(writer: Writer, run_ids: Iterable[str]) -> None:
    """Drop the states of these runs; cleaning up then may remove what only they held.

    Raises:
        AtlasWriteFailed: the store refuses.
    """
    wanted = set(run_ids)
    if wanted:
        for table in TABLES:
            writer.transact(table, partial(_untag, wanted), unfenced=True)


def every_tag(uri: str) -> frozenset[str]:
    """Runs of which any table carries the tag."""
    return frozenset().union(*_tags(uri).values())


def states(uri: str) -> list[State]:
    """The states that are kept, oldest first; halves are left out.

    Raises:
        AtlasError: a table is missing or can't be read.
    """
    tagged = _tags(uri)
    whole = set(tagged["tiles"]).intersection(*tagged.values())
    return [
        State(
            run_id,
            max(tags[run_id]["created_at"] for tags in tagged.values()),
            {table: tags[run_id]["version"] for table, tags in tagged.items()},
        )
        for run_id in sorted(whole)
    ]


def expired(uri: str, keep: int = KEPT) -> tuple[str, ...]:
    """Runs whose states are older than the newest `keep`; for `drop_tags`."""
    return tuple(state.run_id for state in states(uri)[:-keep])


def list_versions(uri: str) -> list[dict[str, Any]]:
    """The states that are kept, newest first.

    Returns:
        Rows of run_id, command, status and started_at of the run, tagged_at, the number of slides
        and tiles, the version of `tiles`, and whether the state can be opened: one that holds what
        was forgotten since can't.

    Raises:
        AtlasError: a table is missing or can't be read.
    """
    about = ["run_id", "command", "status", "started_at"]
    runs = {
        row["run_id"]: row for row in newest_table(uri, "runs").to_table(columns=about).to_pylist()
    }
    forgotten = Forgotten.of(uri)
    return [
        runs.get(state.run_id, dict.fromkeys(about) | {"run_id": state.run_id})
        | {
            "tagged_at": state.tagged_at,
            "slides": version_of(uri, state.versions, "slides").count_rows(),
            "tiles": version_of(uri, state.versions, "tiles").count_rows(),
            "version": state.versions["tiles"],
            "opens": not forgotten_in(uri, state.versions, forgotten),
        }
        for state in reversed(states(uri))
    ]


def resolve(uri: str, when: str) -> dict[str, int]:
    """The version of each table that a state is made of.

    Args:
        uri: of the atlas.
        when: one of

            - a number that is a version of `tiles`: that, with the tables around it as `around`
              says;
            - a run's id, or so much of its beginning as only it has, 8 characters or more: the
              state after that run;
            - a time, ISO 8601, UTC unless it says otherwise, a date standing for its end: the
              state after the last run that had ended by then. What a run commits before it ends
              isn't found by time.

    Raises:
        AtlasVersionNotFound: there is no such state, or it holds what was forgotten since.
    """
    found = _numbered(uri, when) or _tagged(uri, when) or _timed(uri, when)
    if found is None:
        raise AtlasVersionNotFound(
            f"the atlas {uri} has no state {when!r}",
            remedy=f"{_what_there_is(uri)} `microtome versions` lists them.",
        )
    forgotten = Forgotten.of(uri)
    if forgotten_in(uri, found, forgotten) or _tiles_hold(uri, found, forgotten):
        raise AtlasVersionNotFound(
            f"the state {when!r} of the atlas {uri} holds what was forgotten since",
            remedy="Name a later one, or none.",
        )
    return found


def around(uri: str, version: int) -> dict[str, int] | None:
    """The versions of all tables while a version of `tiles` was the newest; None without it.

    A wave goes into `slides` before `tiles` and into `work` after it. So the newest version of
    `slides` that isn't younger belongs to it, and of `work` and `runs` the last one before
    the next version of `tiles`. Times are those that the writers' clocks gave.
    """
    then = {table: _times(uri, table) for table in TABLES}
    if version not in then["tiles"]:
        return None
    made = then["tiles"][version]
    next_made = min((at for at in then["tiles"].values() if at > made), default=datetime.max)
    found = {"tiles": version}
    for table in TABLES:
        if table != "tiles":
            before = [
                number
                for number, at in then[table].items()
                if (at <= made if table == "slides" else at < next_made)
            ]
            if not before:
                return None
            found[table] = max(before)
    return found


def version_of(uri: str, versions: Mapping[str, int], table: str) -> lance.LanceDataset:
    """A table at the version that a state has of it.

    Raises:
        AtlasVersionNotFound: it is no longer there.
    """
    dataset = open_table(uri, table, versions[table])
    if dataset is None:
        raise AtlasVersionNotFound(
            f"the atlas {uri} no longer has version {versions[table]} of its table {table}",
            remedy=f"{_what_there_is(uri)} `microtome versions` lists them.",
        )
    return dataset


def forgotten_in(
    uri: str, versions: Mapping[str, int], forgotten: Forgotten
) -> list[Mapping[str, Any]]:
    """Rows of `slides` and `work` at those versions that were forgotten since.

    Raises:
        AtlasVersionNotFound: a version is no longer there.
    """
    if not forgotten:
        return []
    columns = ["slide_id", "content_id", "uri"]
    slides = version_of(uri, versions, "slides").to_table(columns=[*columns, "case_id"])
    work = version_of(uri, versions, "work").to_table(columns=columns)
    return forgotten.among([*slides.to_pylist(), *work.to_pylist()])


def _tiles_hold(uri: str, versions: Mapping[str, int], forgotten: Forgotten) -> bool:
    """Whether tiles are of a forgotten slide; of `around`, other tables may not tell."""
    if not forgotten:
        return False
    names = ["slide_id", "case_id"]
    batches = version_of(uri, versions, "tiles").scanner(columns=names).to_batches()
    return any(
        forgotten.names(row["slide_id"], case_id=row["case_id"])
        for batch in batches
        for row in pa.table(batch).group_by(names).aggregate([]).to_pylist()
    )


def _tag(run_id: str, dataset: lance.LanceDataset) -> None:
    known = dataset.tags.list().get(run_id)
    if known is None:
        dataset.tags.create(run_id, dataset.version)
    elif known["version"] != dataset.version:
        dataset.tags.update(run_id, dataset.version)


def _untag(run_ids: set[str], dataset: lance.LanceDataset) -> None:
    for run_id in run_ids & set(dataset.tags.list()):
        dataset.tags.delete(run_id)


def _tags(uri: str) -> dict[str, dict[str, Any]]:
    return {table: newest_table(uri, table).tags.list() for table in TABLES}


def _tagged(uri: str, when: str) -> dict[str, int] | None:
    kept = {state.run_id: state for state in states(uri)}
    try:
        meant = run_meant(uri, when, kept)
    except AtlasVersionNotFound:
        if _is_time(when):  # 20261122 begins the ids of a whole day's runs
            return None
        raise
    return dict(kept[meant].versions) if meant else None


def _numbered(uri: str, when: str) -> dict[str, int] | None:
    if not when.isdecimal():
        return None
    tagged = [state for state in states(uri) if state.versions["tiles"] == int(when)]
    return dict(tagged[-1].versions) if tagged else around(uri, int(when))


def _timed(uri: str, when: str) -> dict[str, int] | None:
    if not _is_time(when):
        return None
    at = datetime.fromisoformat(when)
    if re.fullmatch(r"[\dW-]+", when):
        at = datetime.combine(at, time.max)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    before = [state for state in states(uri) if state.tagged_at <= at]
    return dict(before[-1].versions) if before else None


def _is_time(when: str) -> bool:
    try:
        datetime.fromisoformat(when)
    except ValueError:
        return False
    return True


def _what_there_is(uri: str) -> str:
    kept = states(uri)
    if not kept:
        return "It keeps none but the newest."
    return f"It keeps those after the runs {shortened([state.run_id for state in reversed(kept)])}."


def _times(uri: str, table: str) -> dict[int, datetime]:
    return {row["version"]: row["timestamp"] for row in newest_table(uri, table).versions()}
