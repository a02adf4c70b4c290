"""The layout's traps stay shut."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("trap", ["platform/__init__.py", "platform.py", "tests/platform"])
def test_nothing_shadows_the_standard_library_s_platform(trap: str) -> None:
    assert not (ROOT / trap).exists(), f"{trap} would be imported for `import platform`"


def test_python_m_from_the_root_still_finds_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "platform"], cwd=ROOT, capture_output=True, check=False
    )

    assert done.returncode == 0
    assert done.stdout
