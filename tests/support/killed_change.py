"""Changes of an atlas in a process that is killed before one of its durable steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

from microtome.atlas import forgetting
from microtome.atlas.atlas import Atlas
from microtome.atlas.forgetting import Subject
from microtome.atlas.lease_store import lease_store
from microtome.atlas.recovery import recover
from microtome.atlas.rollback import roll_back
from microtome.atlas.writer import Writer, open_writer

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["microtome.atlas.recovery"])

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
    process = _PROCESSES.Process(target=_change_and_die, args=(uri, name, argument, step))
    process.start()
    process.join(60)
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0


def _change_and_die(uri: str, name: str, argument: str, step: int) -> None:
    left = step

    def dying(durable: Callable[..., Any]) -> Callable[..., Any]:
        def die_or_do(*args: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return durable(*args)

        return die_or_do

    Writer.transact = dying(Writer.transact)  # type: ignore[method-assign]
    Writer.fence = dying(Writer.fence)  # type: ignore[method-assign]
    forgetting.write_record = dying(forgetting.write_record)
    store = type(lease_store(uri))
    store.clear = dying(store.clear)  # type: ignore[method-assign]
    change(uri, name, argument)
