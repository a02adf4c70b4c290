"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from microtome.atlas.evidence import Evidence

Severity = Literal["broken", "note"]
Remedy = Literal[
    "",  # none: only a person can help
    "recover",  # finish or undo the wave, as the next run would
    "withdraw",  # take the slide out, so that the next run indexes it again
    "unsettle",  # let the ledger forget one model's work on a slide, so that it is done again
    "delete-tiles",
    "deduplicate",
    "correct-columns",
    "drop-damaged",  # let go of fragments whose files can't be read
    "drop-index",
    "close-runs",
    "maintain",  # `microtome maintain` removes it
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that isn't as promised.

    Attributes:
        check: name of the check that found it.
        subject: the slide, model, index or table it is about.
        message: what is wrong, in words.
        severity: `broken`, or `note` for what harms nobody.
        remedy: what `repair` does about it; empty where only a person can help.
        model_id: of a finding about one model's work on a slide.
    """

    check: str
    subject: str
    message: str
    severity: Severity = "broken"
    remedy: Remedy = ""
    model_id: str = ""

    @property
    def mendable(self) -> bool:
        """Whether `microtome verify --repair` mends it."""
        return self.remedy not in {"", "maintain"}


@dataclass(frozen=True, slots=True)
class Check:
    """One promise.

    Attributes:
        name: slug.
        promise: what holds, in words.
        rows: how many rows prove it.
        find: what breaks it.
    """

    name: str
    promise: str
    rows: Callable[[Evidence], int]
    find: Callable[[Evidence], Iterable[Finding]]
