"""From a checkpoint of the published LGFFEM to a model folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from microtome.models.backbone import TimmNetwork, WeightSource, weights_licence
from microtome.models.card import ModelCard, Preprocessing
from microtome.models.checkpoint import save_checkpoint
from microtome.models.licence import UNKNOWN, check_licence, joint_licence
from microtome.models.reference_settings import read_reference_settings
from microtome.models.reference_weights import convert_reference


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is converted.

    Attributes:
        checkpoint: the reference's `.pth`.
        settings: the YAML files of backbone, neck and head that it was trained with.
        backbone: whence the backbone's weights come; the checkpoint hasn't them.
        licence: of the checkpoint itself, as its author says.
        allow_licences: licences of the backbone that aren't permissive and are accepted.
    """

    checkpoint: str
    settings: tuple[str, str, str]
    backbone: WeightSource
    licence: str = UNKNOWN
    allow_licences: tuple[str, ...] = ()


def convert_checkpoint(conversion: Conversion, folder: str | Path) -> ModelCard:
    """Write the model's folder; its card carries both licences.

    Raises:
        SettingError: a settings file is wrong, see `read_reference_settings`.
        LicenceRefused: of the backbone, unless it was allowed by name.
        CheckpointInvalid, ModelNotFound: see `convert_reference`.
    """
    config = read_reference_settings(*conversion.settings)
    licence = weights_licence(TimmNetwork(config.backbone), conversion.backbone)
    check_licence(config.backbone, licence, conversion.allow_licences)
    model = convert_reference(conversion.checkpoint, config, conversion.backbone)
    name = Path(conversion.checkpoint).stem
    card = ModelCard(
        name=name,
        architecture=config.to_architecture(),
        preprocessing=Preprocessing(),  # the reference's, whatever the backbone's own is
        dim=config.dim,
        weights_sha256="",
        licence=joint_licence(licence, conversion.licence),
        notes=f"The published LGFFEM on {config.backbone}, converted from the checkpoint {name}.",
    )
    return save_checkpoint(folder, model, card)
