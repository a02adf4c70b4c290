"""Changes of an atlas in a process that is killed before one of its durable steps."""

from __future__ import annotations

from collections.abc import Callable

from microtome.atlas import forgetting
from microtome.atlas.atlas import Atlas
from microtome.atlas.forgetting import Subject
from microtome.atlas.lease_store import lease_store
from microtome.atlas.recovery import recover
from microtome.atlas.rollback import roll_back
from microtome.atlas.writer import Writer, open_writer
from support.killing import Moment, Witness, run_until

CHANGES: dict[str, Callable[[Writer, str], object]] = {
    "forget": lambda writer, slide_id: forgetting.forget(writer, Subject(slide_id)),
    "rollback": roll_back,
    "purge": lambda writer, _: forgetting.purge(writer),
    "another": lambda writer, _: None,
}


def change(uri: str, name: str, argument: str = "") -> None:
    """Make a change as its command does."""
    with open_writer(uri, name) as writer:
        recover(writer, Atlas.open(uri))
        CHANGES[name](writer, argument)


def killed(uri: str, name: str, argument: str, step: int) -> bool:
    """Make a change in a process of its own; whether it was killed, before that durable step."""
    return run_until(Moment(step), _change, uri, name, argument).killed


def _change(witness: Witness, uri: str, name: str, argument: str) -> None:
    witness.watch(Writer, "transact")
    witness.watch(Writer, "fence")
    witness.watch(forgetting, "write_record")
    witness.watch(type(lease_store(uri)), "clear")
    change(uri, name, argument)
