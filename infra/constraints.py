"""Resolve every dependency anew and pin it in constraints.txt: `make constraints`.

Local version labels such as `+cpu` are dropped: a pin with one installs nowhere else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Versions that were tried together; a plain `torch` would take whatever is newest.
TRIED_TOGETHER = ["torch==2.13.0", "torchvision==0.28.0", "timm==1.0.31"]
HEADER = "# Every dependency, resolved together; regenerate with `make constraints`.\n"


def resolve() -> list[str]:
    """Names and versions that pip would install into an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--report", "-", "--editable", f"{ROOT}[dev]", *TRIED_TOGETHER]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    found.pop("microtome")
    return [f"{name}=={version.split('+')[0]}" for name, version in found.items()]


def main() -> None:
    """Write constraints.txt."""
    pins = sorted(resolve(), key=str.lower)
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(pins) + "\n")


if __name__ == "__main__":
    main()
