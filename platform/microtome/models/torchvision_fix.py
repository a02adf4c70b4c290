"""Let `import torchvision`, and so timm, succeed beside a CPU build of torch.

PyPI's torchvision is built against CUDA torch. Beside a CPU torch its compiled operators don't
load, and its import dies with "operator torchvision::nms does not exist": its Python code
registers fake kernels for operators that nobody declared. Declaring their schemas is enough, since
models and transforms never call them. Where the compiled operators load, nothing is declared.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_library: Any = torch.library  # without annotations in torch
_declared: Any = None  # the declarations live as long as this object


def ensure_torchvision_imports() -> None:
    """Declare the operators that torchvision can't load here; call it before importing timm."""
    global _declared  # noqa: PLW0603
    if _declared is None and not _compiled_operators_load():
        _declared = _library.Library("torchvision", "DEF")
        for schema in SCHEMAS:
            _declared.define(schema)


def _compiled_operators_load() -> bool:
    ops: Any = torch.ops
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # not installed: its import will say so
    for library in Path(spec.origin).parent.glob("_C*"):
        try:
            ops.load_library(library)
        except OSError:
            continue
        return True
    return False
