"""Proves an atlas: every planned tile is there once, and everything says the same of it.

Reads, and writes nothing. Each promise is one function of `checks`; this module runs them over one
moment of the atlas and gathers what they find.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from microtome.atlas.checks import CHECKS, VECTORS
from microtome.atlas.damage import DAMAGE
from microtome.atlas.evidence import Evidence, gather
from microtome.atlas.findings import Check, Finding
from microtome.atlas.storage import reason
from microtome.errors import AtlasError


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one check.

    Attributes:
        name: of the check.
        promise: what holds, in words.
        rows: how many rows were looked at.
        findings: what breaks the promise, and notes.
        seconds: wall time; the scan of the tiles counts for the first check that needs it.
    """

    name: str
    promise: str
    rows: int
    findings: tuple[Finding, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found.

    Attributes:
        uri: of the atlas.
        checks: in the order they were made.
        at_work: who wrote to the atlas meanwhile; empty where nobody did.
        seconds: wall time.
    """

    uri: str
    checks: tuple[Checked, ...]
    at_work: str
    seconds: float

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all checks."""
        return tuple(finding for check in self.checks for finding in check.findings)

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Those that break a promise."""
        return tuple(finding for finding in self.findings if finding.severity == "broken")

    @property
    def holds(self) -> bool:
        """Whether everything is as promised."""
        return not self.broken

    def to_json(self) -> dict[str, Any]:
        """The report as scripts read it."""
        checks = [
            asdict(check)
            | {"findings": [asdict(one) | {"mendable": one.mendable} for one in check.findings]}
            for check in self.checks
        ]
        return {
            "atlas": self.uri,
            "holds": self.holds,
            "at_work": self.at_work,
            "seconds": self.seconds,
            "checks": checks,
        }


def verify(
    uri: str,
    *,
    vectors: bool = False,
    ours: bool = False,
    starting: Callable[[str], None] = lambda _: None,
) -> Report:
    """Check everything that must hold; writes nothing.

    Args:
        uri: of the atlas.
        vectors: read every vector, and hash every tile id anew instead of a sample.
        ours: whether this process itself holds the lease.
        starting: told the name of each check before it begins.

    Raises:
        AtlasNotFound: no atlas lies there.
        AtlasError: a table is missing or can't be opened.
    """
    started_s = time.monotonic()
    try:
        seen = gather(uri, thorough=vectors, ours=ours)
        seen.unsettled  # noqa: B018 - reads slides and ledger, without which nothing can be said
    except DAMAGE as error:
        raise AtlasError(
            f"slides or the ledger of {uri} can't be read: {reason(error, uri)}",
            remedy="Restore the table from a backup, or roll back to an earlier run.",
        ) from error
    checked = []
    for check in (*CHECKS, VECTORS) if vectors else CHECKS:
        starting(check.name)
        checked.append(_checked(check, seen))
    at_work = str(seen.at_work) if seen.at_work else ""
    return Report(uri, tuple(checked), at_work, time.monotonic() - started_s)


def _checked(check: Check, seen: Evidence) -> Checked:
    started_s = time.monotonic()
    try:
        rows, findings = check.rows(seen), tuple(check.find(seen))
    except DAMAGE as error:
        message = f"could not be checked: {reason(error, seen.atlas.uri)}"
        rows, findings = 0, (Finding(check.name, "atlas", message),)
    return Checked(check.name, check.promise, rows, findings, time.monotonic() - started_s)
