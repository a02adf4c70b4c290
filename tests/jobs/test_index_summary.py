"""What `microtome index` says of a run when it has ended."""

from __future__ import annotations

from collections import Counter

import pytest

from microtome.engine.run import IndexSummary
from microtome_jobs.commands import print_summary


@pytest.mark.parametrize(
    ("truncated", "forgotten", "failed_before", "refused"),
    [(2, 0, "2 failed before", ""), (0, 3, "", "3 were forgotten"), (2, 3, "2 failed", "3 were")],
)
def test_forgotten_slides_are_refused_and_no_failures_to_retry(
    capsys: pytest.CaptureFixture[str],
    truncated: int,
    forgotten: int,
    failed_before: str,
    refused: str,
):
    failed = Counter({"truncated": truncated, "slide-forgotten": forgotten})
    print_summary(
        IndexSummary("atlas", 5, 0, failed=+failed, left_alone=failed.total(), refused=forgotten)
    )
    said = capsys.readouterr().err
    assert failed_before in said
    assert refused in said
    assert ("--retry-failed" in said) == bool(truncated)
    assert ("forgotten and are refused" in said) == bool(forgotten)
