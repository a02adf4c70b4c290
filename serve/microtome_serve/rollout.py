"""A new model beside the old: first it answers in the shadow of the old one, then instead of it.

Both models' vectors are columns of the atlas, and both have an `Embedder`. Which one answers is
known to one process, `Rollout`, and told to every search replica once a second; a replica takes no
request down when it changes. They tell it in turn what they know, so that the choice outlives the
loss of that process. It doesn't outlive a new deployment: what is to stay belongs in the settings.
Replicas of the old one, which go on for a while beside the new, are told apart by their settings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from microtome.config import check_fraction
from microtome.errors import MicrotomeError, SettingError
from microtome_serve.calling import Calls
from microtome_serve.settings import ServeSettings

log = logging.getLogger("microtome.serve")

EXCHANGE_EVERY_S: Final = 1.0
SILENT_S: Final = 10.0

Slot = Literal["model", "candidate"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model answers.

    Attributes:
        answers: the model, or the candidate.
        shadow: share of the questions that the other one answers, too, unseen.
        changes: how often it was changed; of two, the one with more is the newer.
        deployed: names the settings that it belongs to; under others it means nothing.
    """

    answers: Slot = "model"
    shadow: float = 0.0
    changes: int = 0
    deployed: str = ""

    def __post_init__(self) -> None:
        check_fraction("shadow", self.shadow)

    @classmethod
    def first(cls, settings: ServeSettings) -> Choice:
        """What a deployment begins with."""
        said = json.dumps(settings.to_args(), sort_keys=True)
        return cls(
            shadow=settings.shadow if settings.candidate is not None else 0.0,
            deployed=hashlib.sha256(said.encode()).hexdigest(),
        )

    def or_newer(self, told: Choice) -> Choice:
        """What is told, if it is of the same deployment and newer; else this one."""
        same = told.deployed == self.deployed
        return told if same and told.changes > self.changes else self

    @property
    def other(self) -> Slot:
        """The one that doesn't answer."""
        return "model" if self.answers == "candidate" else "candidate"


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of asking both models.

    Attributes:
        questions: that both answered.
        overlap: sum over them of the share of hits that both found.
        seconds: that the one took which answers, in all.
        other_seconds: that the other took.
        failed: questions that the other one couldn't answer.
        skipped: those that it wasn't asked, since it had enough to do.
    """

    questions: int = 0
    overlap: float = 0.0
    seconds: float = 0.0
    other_seconds: float = 0.0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Compared) -> Compared:
        return Compared(
            self.questions + other.questions,
            self.overlap + other.overlap,
            self.seconds + other.seconds,
            self.other_seconds + other.other_seconds,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )

    def to_json(self) -> dict[str, Any]:
        """Counts and means, see `schemas.RolloutFacts`."""
        most = max(self.questions, 1)
        return {
            "questions": self.questions,
            "failed": self.failed,
            "skipped": self.skipped,
            "overlap": self.overlap / most if self.questions else None,
            "seconds": self.seconds / most if self.questions else None,
            "other_seconds": self.other_seconds / most if self.questions else None,
        }


def overlap(found: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    """Share of the hits that two rankings have in common, of the longer one; 1 for two empty."""
    mine, its = ({hit["tile_id"] for hit in hits} for hits in (found, other))
    return len(mine & its) / max(len(mine), len(its)) if mine or its else 1.0


class Rollout:
    """The deployment that knows which model answers: always one replica."""

    def __init__(self, settings: ServeSettings) -> None:
        self._has_candidate = settings.candidate is not None
        self._choice = Choice.first(settings)
        self._compared = Compared()

    async def exchange(self, known: Choice, new: Compared) -> Choice:
        """Take in what a replica knows and has seen; tell it what is chosen."""
        if known.deployed == self._choice.deployed:
            self._choice = self._choice.or_newer(known)
            self._compared += new
        return self._choice

    async def choose(self, answers: Slot | None, shadow: float | None) -> None:
        """Change what is given; comparisons begin anew.

        Raises:
            SettingError: there is no candidate, or the share is none.
        """
        if not self._has_candidate:
            raise SettingError(
                "there is no candidate to roll out", remedy="Serve with --candidate MODEL."
            )
        now = self._choice
        self._choice = replace(
            now,
            answers=answers or now.answers,
            shadow=now.shadow if shadow is None else shadow,
            changes=now.changes + 1,
        )
        self._compared = Compared()

    async def report(self) -> tuple[Choice, Compared]:
        """What is chosen, and what came of comparing since."""
        return self._choice, self._compared


class Following:
    """A replica's part: what is chosen, and what it compared meanwhile."""

    def __init__(self, rollout: Calls, settings: ServeSettings) -> None:
        self._rollout = rollout
        self._new = Compared()
        self._lock = threading.Lock()
        self.choice = Choice.first(settings)
        threading.Thread(target=self._follow, name="rollout", daemon=True).start()

    def note(self, compared: Compared) -> None:
        """Add to what is told next."""
        with self._lock:
            self._new += compared

    def _follow(self) -> None:
        pause = threading.Event()
        while not pause.wait(EXCHANGE_EVERY_S):
            with self._lock:
                new, self._new = self._new, Compared()
            try:
                told = self._rollout.exchange.result(self.choice, new, timeout_s=SILENT_S)
                self.choice = self.choice.or_newer(told)
            except Exception as error:  # noqa: BLE001 - it is asked again; meanwhile nothing changes
                level = logging.DEBUG if isinstance(error, MicrotomeError) else logging.WARNING
                log.log(level, "the rollout wasn't told: %s", type(error).__name__)
                self.note(new)
