"""Pickles run code when they are opened, so nothing opens one from outside."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("platform", "jobs", "training", "serve")
OPENS = re.compile(r"torch\.load\b|\bpickle\b|allow_pickle=True|\bjoblib\b|\bdill\b")
ALLOWED = {
    "platform/microtome/models/reference_weights.py": {"torch.load"},  # with weights_only
    "platform/microtome/engine/stages.py": {"pickle"},  # its own workers' bytes
}


def code_of(path: Path) -> str:
    """The file without its comments and docstrings."""
    text = re.sub(r'"""[\s\S]*?"""', "", path.read_text(encoding="utf-8"))
    return re.sub(r"#.*", "", text)


def test_pickles_are_opened_nowhere_else():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): set(OPENS.findall(code_of(path))) for path in files}
    assert len(files) > 50
    assert {name: words for name, words in found.items() if words} == ALLOWED


def test_the_one_torch_load_builds_tensors_only():
    code = code_of(ROOT / "platform/microtome/models/reference_weights.py")
    calls = re.findall(r"torch\.load\(.*\)", code)
    assert len(calls) == 1
    assert "weights_only=True" in calls[0]
