"""A checkpoint laid out as the published LGFFEM's, and what that model computes from it.

Only tensors under the reference's names and plain functions: nothing of the package under test.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

State = dict[str, Tensor]

LOCAL = "lca"
# node, its inputs' gates, how each input is brought to the node's size
NODES = (
    ("p31", (("gca_p30", ""), ("lca_p40", "up"))),
    ("p21", (("gca_p20", ""), ("lca_p31", "up"))),
    ("p12", (("gca_p10", ""), ("lca_p21", "up"))),
    ("p22", (("lca_p20", ""), ("lca_P21", ""), ("gca_p12", "down"))),
    ("p32", (("lca_p30", ""), ("lca_P31", ""), ("gca_p22", "down"))),
    ("p42", (("lca_p40", ""), ("gca_p32", "down"))),
)
# node: its inputs; pI0 are the layer's inputs
INPUTS = {
    "p31": ("p30", "p40"),
    "p21": ("p20", "p31"),
    "p12": ("p10", "p21"),
    "p22": ("p20", "p21", "p12"),
    "p32": ("p30", "p31", "p22"),
    "p42": ("p40", "p32"),
}


def make_neck(in_channels: tuple[int, ...], channels: int, layers: int, seed: int = 0) -> State:
    """Random weights under the reference's names."""
    numbers = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=numbers) / 4

    state: State = {}
    c, m, k = channels, channels // 2, channels // 8
    for layer in range(layers):
        prefix = f"neck_layer_{layer}."
        for node, gates in NODES:
            state[f"{prefix}w_{node}"] = 1 + draw(len(gates))
        for node, gates in NODES:
            for gate, resample in gates:
                at, is_local = f"{prefix}{node}_{gate}.", gate.startswith(LOCAL)
                state[at + "alpha"] = draw(1)
                if resample == "up":
                    state[at + "upsample.weight"] = draw(c, 1, 2, 2)
                    state |= {at + "normup.weight": draw(c), at + "normup.bias": draw(c)}
                if resample == "down":
                    state[at + "downsample.weight"] = draw(c, 1, 3, 3)
                state |= {at + "norm.weight": draw(c), at + "norm.bias": draw(c)}
                inner = m if is_local else k
                state[at + "pwconv1.weight"] = draw(inner, c, 1, 1)
                if not is_local:
                    state[at + "dwconv.weight"] = draw(c, 1, 3, 3)
                    state[at + "pwconv1.bias"] = draw(k)
                    state |= {at + f"gc.{name}": draw(1, k, 1, 1) for name in ("gamma", "beta")}
                state |= {
                    at + "pwconv2.weight": draw(c, inner, 1, 1),
                    at + "pwconv2.bias": draw(c),
                }
    for i in (3, 2, 1, 0):
        at, wide = f"neck_layer_0.p{i + 1}_down_channel.", 2 * in_channels[i]
        state[at + "pwconv1.weight"] = draw(wide, in_channels[i], 1, 1)
        state |= {at + "norm.weight": draw(wide), at + "norm.bias": draw(wide)}
        state |= {at + "pwconv2.weight": draw(c, wide, 1, 1), at + "pwconv2.bias": draw(c)}
    return state


def make_head(channels: int, seed: int = 1) -> State:
    """Random weights under the reference's names."""
    numbers = torch.Generator().manual_seed(seed)
    state: State = {}
    for i in range(1, 5):
        state[f"h{i}.gem.p"] = torch.full((1,), 3.0 + i / 4)
        for name in ("weight", "bias", "running_mean"):
            state[f"h{i}.bn.{name}"] = torch.randn(channels, generator=numbers)
        state[f"h{i}.bn.running_var"] = 0.5 + torch.rand(channels, generator=numbers)
        state[f"h{i}.bn.num_batches_tracked"] = torch.tensor(7)
        for part in ("fc", "fc_norm"):
            state[f"h{i}.{part}.weight"] = torch.randn(channels, channels, generator=numbers)
            state[f"h{i}.{part}.bias"] = torch.randn(channels, generator=numbers)
    return state


def embed(neck: Mapping[str, Tensor], head: Mapping[str, Tensor], maps: list[Tensor]) -> Tensor:
    """(N, 4 · channels) from the backbone's four maps, finest first."""
    at = "neck_layer_0.p{}_down_channel."
    maps = [_project(_under(neck, at.format(i)), x) for i, x in enumerate(maps, start=1)]
    for layer in range(1 + max(int(name.split(".")[0].split("_")[-1]) for name in neck)):
        maps = _layer(_under(neck, f"neck_layer_{layer}."), maps)
    return torch.cat([_pool(_under(head, f"h{i}."), x) for i, x in enumerate(maps, start=1)], dim=1)


def _project(w: State, x: Tensor) -> Tensor:
    hidden = _norm(F.conv2d(x, w["pwconv1.weight"]), w, "norm")
    return F.conv2d(F.gelu(hidden), w["pwconv2.weight"], w["pwconv2.bias"])


def _layer(w: State, maps: list[Tensor]) -> list[Tensor]:
    known = dict(zip(("p10", "p20", "p30", "p40"), maps, strict=True))
    for node, gates in NODES:
        share = w[f"w_{node}"] / (w[f"w_{node}"].sum() + 1e-4)
        known[node] = sum(
            share[i] * _gate(_under(w, f"{node}_{gate}."), known[source])
            for i, ((gate, _), source) in enumerate(zip(gates, INPUTS[node], strict=True))
        )
    return [known[node] for node in ("p12", "p22", "p32", "p42")]


def _gate(w: State, x: Tensor) -> Tensor:
    channels = x.shape[1]
    if "upsample.weight" in w:
        x = F.conv_transpose2d(
            _norm(x, w, "normup"), w["upsample.weight"], stride=2, groups=channels
        )
    if "downsample.weight" in w:
        x = F.conv2d(x, w["downsample.weight"], stride=2, padding=1, groups=channels)
    hidden = x
    if "dwconv.weight" in w:
        hidden = F.conv2d(hidden, w["dwconv.weight"], padding=1, groups=channels)
    hidden = F.conv2d(_norm(hidden, w, "norm"), w["pwconv1.weight"], w.get("pwconv1.bias"))
    hidden = F.gelu(hidden)
    if "gc.gamma" in w:
        hidden = (w["gc.gamma"] + 1) * hidden + w["gc.beta"]  # its response is always 1
    gate = torch.sigmoid(F.conv2d(hidden, w["pwconv2.weight"], w["pwconv2.bias"]))
    return (1 - w["alpha"]) * x * gate + w["alpha"] * x


def _pool(w: State, x: Tensor) -> Tensor:
    p = w["gem.p"]
    pooled = x.clamp(min=1e-6).pow(p).mean(dim=(2, 3)).pow(1 / p)
    scale = w["bn.weight"] / (w["bn.running_var"] + 1e-5).sqrt()
    pooled = (pooled - w["bn.running_mean"]) * scale + w["bn.bias"]
    hidden = F.normalize(F.linear(pooled, w["fc.weight"], w["fc.bias"]), dim=1)
    return F.linear(hidden, w["fc_norm.weight"], w["fc_norm.bias"])


def _norm(x: Tensor, w: State, name: str) -> Tensor:
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias, 1e-6).movedim(-1, 1)


def _under(state: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
