"""An atlas that is written to, rebuilt, replaced or gone while it is served.

A thread looks once a second, so that no request waits for the store to say what is newest. What
was made for an atlas (indices in memory, rows that pass a filter) is kept while it is that atlas,
and made anew where another took its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from microtome.atlas.atlas import Atlas
from microtome.errors import AtlasError, AtlasNotFound, MicrotomeError

log = logging.getLogger("microtome.serve")

LOOK_EVERY_S: Final = 1.0
STALE_S: Final = 5.0  # after which a table is opened anew by whoever needs it

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class FollowedAtlas(Atlas):
    """An atlas whose tables are opened once a second, not at each use; for reading only."""

    _opened: dict[str, tuple[float, Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def dataset(self, table: str) -> Any:
        """As `Atlas.dataset`, but a version that came within the last second may be missed."""
        opened_s, known = self._opened.get(table, (0.0, None))
        if known is None or time.monotonic() > opened_s + STALE_S:
            known = Atlas.dataset(self, table)
            self._opened[table] = time.monotonic(), known
        return known

    def look(self) -> None:
        """Open anew what was ever asked for; a table that hasn't changed keeps what it cached."""
        for table, (_, known) in list(self._opened.items()):
            newest = Atlas.dataset(self, table)
            same = mark_of(newest) == mark_of(known)
            self._opened[table] = time.monotonic(), known if same else newest


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells one state of a table from another.

    Attributes:
        version: of the table.
        first_file: of its first fragment; names of files are never given twice.
    """

    version: int
    first_file: str

    def is_of_another(self, then: Mark) -> bool:
        """Whether it can't be a later state of the same table: versions only grow."""
        return self.version < then.version or (
            self.version == then.version and self.first_file != then.first_file
        )


def mark_of(dataset: Any) -> Mark:
    """The mark of a Lance dataset."""
    fragments = dataset.get_fragments()
    return Mark(dataset.version, fragments[0].metadata.files[0].path if fragments else "")


class Followed(Generic[Made]):
    """What was made for an atlas, as long as there is one.

    Args:
        uri: of the atlas.
        make: makes it; called again where the atlas has other models, columns or rows that can't
            have come of those before.
    """

    def __init__(self, uri: str, make: Callable[[Atlas], Made]) -> None:
        self._uri = uri
        self._make = make
        self._atlas: FollowedAtlas | None = None
        self._mark = Mark(0, "")
        self._made: Made | None = None
        self._problem: MicrotomeError = AtlasError("the atlas wasn't looked at yet")
        self._looked_s = time.monotonic()
        self._stopped = threading.Event()
        threading.Thread(target=self._follow, name="follow-atlas", daemon=True).start()

    def current(self) -> Made:
        """What was made.

        Raises:
            AtlasError: there is no atlas now, or it can't be read.
        """
        made = self._made
        if made is None:
            raise self._problem
        return made

    @property
    def silent_s(self) -> float:
        """Seconds since the thread last looked."""
        return time.monotonic() - self._looked_s

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                self._look()
            except MicrotomeError as problem:
                self._note(problem)
            except Exception as error:  # a thread that ends would leave the atlas as it was
                log.exception("looking at the atlas failed")
                self._note(AtlasError(f"the atlas can't be read: {type(error).__name__}"))
            self._looked_s = time.monotonic()
            self._stopped.wait(LOOK_EVERY_S)

    def _look(self) -> None:
        atlas = FollowedAtlas.open(self._uri)
        mark = mark_of(atlas.tiles)
        if self._atlas == atlas and self._made is not None and not mark.is_of_another(self._mark):
            self._atlas.look()
        else:
            self._made = self._make(atlas)
            self._atlas = atlas
        self._mark = mark

    def _note(self, problem: MicrotomeError) -> None:
        """Remember why there is no atlas; what can't be looked at just now may still be read."""
        if type(problem) is not type(self._problem):
            log.warning("%s", problem)
        self._problem = problem
        if isinstance(problem, AtlasNotFound):
            self._made = self._atlas = None
