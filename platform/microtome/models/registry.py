"""Models by name.

    tissue                        ships with its weights, see `shipped/tissue/card.json`
    starter                       untrained, needs no file, see `starter`
    statistics                    the part of it that has no weights, see `statistics`
    some/folder                   a checkpoint: card.json and weights.safetensors
    s3://bucket/folder            the same in an object store; see `fetching`
    timm:resnet18.a1_in1k         any timm network with its pretrained weights from the hub
    timm:hf-hub:owner/model       the same from anyone's hub repository
    timm:resnet18@file:PATH       with weights from a safetensors file
    timm:resnet18@random:0        untrained, from a seed

torch and timm are imported only when a model is loaded; the cards of those that ship are read
without.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microtome.errors import CheckpointInvalid, ModelNotFound
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.encoder import DEFAULT_OPTIONS, EncoderOptions
from microtome.models.licence import check_licence
from microtome.models.starter_card import STARTER_CARD, STATISTICS_CARD
from microtome.slides.storage import is_remote

if TYPE_CHECKING:
    from torch import Tensor, nn

    from microtome.models.torch_encoder import TorchEncoder

__all__ = [
    "EncoderOptions",
    "canonical_name",
    "folder_card",
    "load_card",
    "load_encoder",
    "load_module",
    "shipped_cards",
]

SHIPPED = Path(__file__).parent / "shipped"
"""A folder for each model that ships with its weights."""
WITHOUT_FILE = {card.name: card for card in (STARTER_CARD, STATISTICS_CARD)}
TIMM_PREFIX = "timm:"
FILE_MARK = "@file:"


def canonical_name(name: str) -> str:
    """The name as it holds from any folder: paths in it absolute, all else as it is."""
    if name.startswith(TIMM_PREFIX):
        network, mark, path = name.partition(FILE_MARK)
        return f"{network}{mark}{Path(path).resolve()}" if path else name
    is_folder = name not in shipped_cards() and Path(name).is_dir()
    return str(Path(name).resolve()) if is_folder else name


def load_encoder(name: str, options: EncoderOptions = DEFAULT_OPTIONS) -> TorchEncoder:
    """Load a model, ready to embed.

    Args:
        name: see the module's docstring.
        options: device, precision, licences.

    Raises:
        ModelNotFound: no such model, or its weights can't be had here.
        CheckpointInvalid: the folder isn't what its card says.
        LicenceRefused: the weights' licence isn't permissive and wasn't allowed by name.
        ModelError: the store that the folder lies in refuses, or there is no room for a copy.
        SettingError: the name or the options can't be right.
    """
    from microtome.models.torch_encoder import TorchEncoder

    card, module = load_module(name, options)
    return TorchEncoder(module, card, options)


def load_card(name: str, options: EncoderOptions = DEFAULT_OPTIONS) -> ModelCard:
    """Read a model's card, and check all that can be without building the network.

    The weights are read for it, but for the models that ship: a `timm:` model's id is known only
    with them, and a folder's are compared with its card.

    Raises:
        As `load_encoder`, but whether a folder's weights fit its architecture is not looked at.
    """
    if name in (shipped := shipped_cards()):
        return shipped[name]
    if name.startswith(TIMM_PREFIX):
        return _load_timm(name, options)[0]
    return _card_and_weights(name, options)[0]


def load_module(
    name: str, options: EncoderOptions = DEFAULT_OPTIONS
) -> tuple[ModelCard, nn.Module]:
    """Load a model as its bare network, on the CPU, in evaluation mode.

    Raises:
        As `load_encoder`.
    """
    if name in WITHOUT_FILE:
        return WITHOUT_FILE[name], _load_without_file(name)
    if name.startswith(TIMM_PREFIX):
        return _load_timm(name, options)
    from microtome.models.checkpoint import load_checkpoint, module_of

    if name in shipped_cards():
        return load_checkpoint(SHIPPED / name)
    card, weights = _card_and_weights(name, options)
    return card, module_of(card, weights, name)


@cache
def shipped_cards() -> dict[str, ModelCard]:
    """Cards of all models that ship, by name, those with weights first."""
    files = sorted(SHIPPED.glob("*/card.json"))
    cards = (ModelCard.from_json(file.read_text(encoding="utf-8")) for file in files)
    return {card.name: card for card in cards} | WITHOUT_FILE


def _load_without_file(name: str) -> nn.Module:
    """Make a model, its weights drawn, and check that they are those its card's id stands for."""
    from microtome.models.architectures import build_module
    from microtome.models.checkpoint import weights_sha256

    module = build_module(WITHOUT_FILE[name].architecture)
    if weights_sha256(module.state_dict()) != WITHOUT_FILE[name].weights_sha256:
        raise CheckpointInvalid(
            f"the installed timm builds another network for {name} than its card stands for",
            remedy="Install the versions in constraints.txt.",
        )
    return module


def _load_timm(name: str, options: EncoderOptions) -> tuple[ModelCard, nn.Module]:
    from microtome.models.architectures import timm_architecture
    from microtome.models.backbone import (
        TimmNetwork,
        WeightSource,
        create_timm,
        weights_licence,
    )
    from microtome.models.checkpoint import weights_sha256

    network_name, _, source = name.removeprefix(TIMM_PREFIX).partition("@")
    network, weights = TimmNetwork(network_name), WeightSource.parse(source or "hub")
    trained = weights.kind != "random"
    licence = weights_licence(network, weights)
    check_licence(name, licence, options.allow_licences)
    module: Any = create_timm(network, weights, num_classes=0)
    card = ModelCard(
        name=name,
        architecture=timm_architecture(network),
        preprocessing=_timm_preprocessing(module.pretrained_cfg),
        dim=getattr(module, "head_hidden_size", None) or module.num_features,
        weights_sha256=weights_sha256(module.state_dict()),
        licence=licence,
    )
    if not trained:
        card = replace(card, training_data="none", notes="Untrained: random weights.")
    return card, module


def _timm_preprocessing(config: dict[str, Any]) -> Preprocessing:
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocessing(config["input_size"][-1], mean, std)


def folder_card(folder: str) -> ModelCard:
    """The card of a checkpoint folder, whatever its licence; the weights are not looked at.

    Raises:
        ModelNotFound: there is no such folder.
        CheckpointInvalid: it has no card, or no valid one.
        ModelError: the store that it lies in refuses, or can't be reached.
    """
    from microtome.models.checkpoint import read_card
    from microtome.models.fetching import stored_card

    if is_remote(folder):
        return stored_card(folder)
    if not Path(folder).is_dir():
        raise ModelNotFound(
            f"there is no model {folder!r}, nor a folder of that name",
            remedy=f"There are: {', '.join(shipped_cards())}; a model folder with card.json "
            "and weights.safetensors; timm:NAME, e.g. timm:resnet18 or timm:hf-hub:owner/model.",
        )
    return read_card(folder)


def _card_and_weights(folder: str, options: EncoderOptions) -> tuple[ModelCard, dict[str, Tensor]]:
    """Of a checkpoint folder, each read once; the weights only where the licence may be used."""
    from microtome.models.checkpoint import read_weights
    from microtome.models.fetching import stored_weights

    card = folder_card(folder)
    check_licence(folder, card.licence, options.allow_licences)
    return card, (stored_weights if is_remote(folder) else read_weights)(folder, card)
