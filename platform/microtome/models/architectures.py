"""From a card's `architecture` back to a module; a new kind of model adds one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from microtome.errors import CheckpointInvalid, MicrotomeError
from microtome.models.backbone import TimmNetwork, WeightSource, create_timm
from microtome.models.cgd import CGD, CgdConfig
from microtome.models.lgffem import LGFFEM, LgffemConfig
from microtome.models.projection import Projection
from microtome.models.starter import Starter
from microtome.models.starter_card import VERSION
from microtome.models.statistics import TissueStatistics

UNTRAINED = WeightSource("random")


def build_module(architecture: Mapping[str, Any]) -> nn.Module:
    """Make the module a card describes, in evaluation mode, its weights still to be loaded.

    Raises:
        CheckpointInvalid: an unknown kind, or fields this version can't build.
    """
    kind = architecture.get("kind")
    if kind not in BUILDERS:
        raise CheckpointInvalid(
            f"the card describes a model of kind {kind!r}",
            remedy=f"This version knows {', '.join(sorted(BUILDERS))}.",
        )
    try:
        return BUILDERS[kind](architecture).eval()
    except CheckpointInvalid:
        raise
    except MicrotomeError as error:
        raise CheckpointInvalid(
            f"the model that the card describes can't be built: {error}"
        ) from error


def timm_architecture(network: TimmNetwork) -> dict[str, Any]:
    """The `architecture` of a plain timm encoder; the tag after the dot names weights, no shape."""
    name = network.name if ":" in network.name else network.name.split(".")[0]
    return {"kind": "timm", "backbone": name, "pad_type": network.pad_type}


def _cgd(architecture: Mapping[str, Any]) -> nn.Module:
    return CGD(CgdConfig.from_architecture(architecture), UNTRAINED)


def _lgffem(architecture: Mapping[str, Any]) -> nn.Module:
    return LGFFEM(LgffemConfig.from_architecture(architecture), UNTRAINED)


def _timm(architecture: Mapping[str, Any]) -> nn.Module:
    try:
        network = TimmNetwork(architecture["backbone"], architecture["pad_type"])
    except KeyError as error:
        raise CheckpointInvalid(f"the card's architecture lacks {error}") from None
    return create_timm(network, UNTRAINED, num_classes=0)


def _projection(architecture: Mapping[str, Any]) -> nn.Module:
    try:
        of, lengths = architecture["of"], (architecture["in_dim"], architecture["dim"])
        return Projection(build_module(of), *lengths)
    except (KeyError, AttributeError) as error:
        raise CheckpointInvalid(f"the card's projection is wrong or lacks {error}") from None


def _starter(architecture: Mapping[str, Any]) -> nn.Module:
    _check_version(architecture)
    return Starter()


def _statistics(architecture: Mapping[str, Any]) -> nn.Module:
    _check_version(architecture)
    return TissueStatistics()


def _check_version(architecture: Mapping[str, Any]) -> None:
    if architecture.get("version") != VERSION:
        raise CheckpointInvalid(
            f"the card is of version {architecture.get('version')!r} of {architecture['kind']}, "
            f"this is version {VERSION}"
        )


BUILDERS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "cgd": _cgd,
    "lgffem": _lgffem,
    "projection": _projection,
    "starter": _starter,
    "statistics": _statistics,
    "timm": _timm,
}
