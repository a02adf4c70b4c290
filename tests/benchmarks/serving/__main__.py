"""What serving costs: `make bench-serving`, or `python tests/benchmarks/serving search` for a part.

A part is a module beside this one with a function `main`; each says what it measures. The load
comes from hey (Debian's package of that name), over loopback, for a bounded time.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = ("search", "embed")
sys.path[:0] = [str(HERE), str(HERE.parents[1])]  # this folder's modules, and tests/support


def main(names: list[str]) -> None:
    """Run the parts named, or all."""
    if unknown := set(names) - set(PARTS):
        sys.exit(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if shutil.which("hey") is None:
        sys.exit("the load generator is missing: apt-get install hey")
    for part in names or PARTS:
        importlib.import_module(part).main()


if __name__ == "__main__":
    main(sys.argv[1:])
