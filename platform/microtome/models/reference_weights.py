"""Weights of the published LGFFEM into ours: the one place where a pickle is opened.

A checkpoint of the reference is a dictionary; `model_neck_state_dict` and `model_head_state_dict`
hold its weights, the rest is the state of its training, and the backbone isn't in it. torch reads
it with `weights_only`, which builds tensors and plain values and runs nothing else.

The names are translated by the tables below, part by part. The reference's fusion parameters are
told by their place and shape: in each layer, in the order of `NODES`, one for each node. Every
tensor must have a place and every place a tensor of its shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from microtome.errors import CheckpointInvalid, SettingError
from microtome.models.backbone import WeightSource
from microtome.models.lgffem import LGFFEM, LgffemConfig

NECK_KEY = "model_neck_state_dict"
HEAD_KEY = "model_head_state_dict"
LAYER_PREFIX = "neck_layer_"

NODES = {
    "inner3": ("p31_gca_p30", "p31_lca_p40"),
    "inner2": ("p21_gca_p20", "p21_lca_p31"),
    "outer1": ("p12_gca_p10", "p12_lca_p21"),
    "outer2": ("p22_lca_p20", "p22_lca_P21", "p22_gca_p12"),
    "outer3": ("p32_lca_p30", "p32_lca_P31", "p32_gca_p22"),
    "outer4": ("p42_lca_p40", "p42_gca_p32"),
}
"""Our node to the reference's gates, in the order of the node's inputs."""

GATE_PARTS = {
    "alpha": "alpha",
    "upsample": "upsample.widen",
    "normup": "upsample.norm",
    "downsample": "downsample",
    "dwconv": "context",
    "norm": "norm",
    "pwconv1": "squeeze",
    "gc": "response",
    "pwconv2": "excite",
}
PROJECTION_PARTS = {"pwconv1": "expand", "norm": "norm", "pwconv2": "reduce"}
PROJECTIONS = {f"p{i + 1}_down_channel": f"projections.{i}" for i in range(4)}
HEADS = {f"h{i + 1}": f"heads.{i}" for i in range(4)}
HEAD_PARTS = {"gem": "gem", "bn": "norm", "fc": "inner", "fc_norm": "outer"}

_GATES = {
    gate: f"{node}.{place}" for node, gates in NODES.items() for place, gate in enumerate(gates)
}
_FUSIONS = [f"{node}.{len(gates)}.weights" for node, gates in NODES.items()]
_ERRORS_SHOWN = 3


@dataclass(slots=True)
class Translation:
    """What became of one part's tensors.

    Attributes:
        weights: by our name.
        strangers: names of the reference that have no place.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)


def convert_reference(path: str, config: LgffemConfig, backbone: WeightSource) -> LGFFEM:
    """The published model with the weights of a checkpoint, in evaluation mode.

    Args:
        path: the reference's `.pth`.
        config: of the reference, see `reference_settings`.
        backbone: whence the backbone's weights come; the checkpoint hasn't them.

    Raises:
        SettingError: the config isn't the reference's.
        CheckpointInvalid: the file isn't such a checkpoint, or a tensor has no place, is missing,
            of another shape or not finite.
        ModelNotFound: the backbone's weights can't be had here.
    """
    if not config.reference:
        raise SettingError("only a config with reference=True can take the reference's weights")
    neck, head = _read(path)
    model = LGFFEM(config, backbone).eval()
    _fill(model.neck, translate_neck(neck), path)
    _fill(model.head, translate_head(head), path)
    return model


def translate_neck(state: Mapping[str, Tensor]) -> Translation:
    """Rename the neck's tensors."""
    result = Translation()
    fusions: dict[str, int] = {}
    for name, tensor in state.items():
        layer, _, rest = name.removeprefix(LAYER_PREFIX).partition(".")
        module, _, part = rest.partition(".")
        if not (name.startswith(LAYER_PREFIX) and layer.isdecimal()):
            ours = None
        elif module in PROJECTIONS and layer == "0":
            ours = _placed(PROJECTIONS[module], part, PROJECTION_PARTS)
        elif module in _GATES:
            ours = _placed(f"layers.{layer}.{_GATES[module]}", part, GATE_PARTS)
        else:
            place = fusions[layer] = fusions.get(layer, -1) + 1
            is_fusion = not part and place < len(_FUSIONS)
            ours = f"layers.{layer}.{_FUSIONS[place]}" if is_fusion else None
        _note(result, name, ours, tensor)
    return result


def translate_head(state: Mapping[str, Tensor]) -> Translation:
    """Rename the head's tensors."""
    result = Translation()
    for name, tensor in state.items():
        head, _, part = name.partition(".")
        _note(result, name, _placed(HEADS.get(head), part, HEAD_PARTS), tensor)
    return result


def _placed(module: str | None, part: str, parts: Mapping[str, str]) -> str | None:
    """Our name for `part`, e.g. `pwconv1.weight`, of one of our modules."""
    name, dot, tensor = part.partition(".")
    return f"{module}.{parts[name]}{dot}{tensor}" if module and name in parts else None


def _note(result: Translation, name: str, ours: str | None, tensor: Tensor) -> None:
    if ours is None:
        result.strangers.append(name)
    else:
        result.weights[ours] = tensor


def _fill(module: nn.Module, translation: Translation, path: str) -> None:
    """Load what was translated, if it is exactly what the module holds."""
    wanted = module.state_dict()
    given = translation.weights
    _none(path, "tensors without a place", translation.strangers)
    _none(path, "tensors without a place", sorted(given.keys() - wanted.keys()))
    _none(path, "no tensor for", sorted(wanted.keys() - given.keys()))
    shapes = [
        f"{name} ({_shape(given[name])} for {_shape(tensor)})"
        for name, tensor in wanted.items()
        if given[name].shape != tensor.shape
    ]
    _none(path, "tensors of another shape than the settings say:", shapes)
    broken = [name for name, tensor in given.items() if not torch.isfinite(tensor).all()]
    _none(path, "values that aren't finite in", broken)
    module.load_state_dict(given, strict=True)


def _none(path: str, what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - _ERRORS_SHOWN} more" if len(names) > _ERRORS_SHOWN else ""
        raise CheckpointInvalid(
            f"the checkpoint {path} has {what} {', '.join(names[:_ERRORS_SHOWN])}{more}",
            remedy="Take the three settings files that it was trained with.",
        )


def _shape(tensor: Tensor) -> str:
    return "×".join(str(side) for side in tensor.shape) or "one value"


def _read(path: str) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """The tensors of neck and head, nothing run and nothing else kept."""
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointInvalid(
            f"the checkpoint {path} can't be read ({type(error).__name__})"
        ) from None
    except Exception as error:  # noqa: BLE001 - a broken file makes torch trip over anything
        raise CheckpointInvalid(
            f"the checkpoint {path} is no file of torch's, or holds more than tensors and plain "
            f"values ({type(error).__name__})",
            remedy="Nothing in it was run. Only checkpoints of the published LGFFEM can be "
            "converted.",
        ) from None
    return _tensors(content, NECK_KEY, path), _tensors(content, HEAD_KEY, path)


def _tensors(content: Any, key: str, path: str) -> Mapping[str, Tensor]:
    state = content.get(key) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise CheckpointInvalid(
            f"the checkpoint {path} has no table of tensors named {key}",
            remedy="Only checkpoints of the published LGFFEM can be converted.",
        )
    return state


def _numpy_numbers() -> list[Any]:
    """What a NumPy number is pickled as: the reference keeps its best loss as one."""
    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float32", "float64")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]
