"""What the atlas costs: `make bench-atlas`, or `python tests/benchmarks/atlas search` for a part.

A part is a module beside this one with a function `main`; each says what it measures.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]  # this folder's modules, and tests/support


def main(names: list[str]) -> None:
    """Run the parts named, or all."""
    parts = [part for part in ("commit", "coding", "search") if (HERE / f"{part}.py").exists()]
    if unknown := set(names) - set(parts):
        sys.exit(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    for part in names or parts:
        importlib.import_module(part).main()


if __name__ == "__main__":
    main(sys.argv[1:])
