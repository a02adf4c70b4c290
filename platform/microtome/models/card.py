"""The model card: what a model is, on one page that travels with its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeVar

from microtome.config import check_positive, check_whole
from microtome.errors import CheckpointInvalid, SettingError

T = TypeVar("T")
ID_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How uint8 RGB becomes the network's input: `(pixels / 255 - mean) / std` at `input_px`.

    Attributes:
        input_px: side of the square input; tiles of another size are resampled to it (bilinear,
            antialiased).
        mean: per channel, in [0, 1] units.
        std: per channel, in [0, 1] units.
    """

    input_px: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        check_whole("input_px", self.input_px, least=16, most=4096)
        for value in self.std:
            check_positive("std", value)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Architecture, preprocessing and weights, with what a user must know of them.

    Attributes:
        name: for people; never compared.
        architecture: `{"kind": "lgffem" | "timm" | …, …config}`, enough to rebuild the module.
        preprocessing: see `Preprocessing`.
        dim: length of the embedding.
        weights_sha256: of the weights' bytes in a canonical order, hex.
        mpp: µm per pixel the model was made for; None where any will do.
        licence: SPDX identifier of the weights, or `unknown`.
        training_data: one line; `none` for untrained weights.
        metrics: measured on held-out data, by name.
        notes: what the model honestly is, for the reader of a result.
    """

    name: str
    architecture: Mapping[str, Any]
    preprocessing: Preprocessing
    dim: int
    weights_sha256: str
    mpp: float | None = None
    licence: str = "unknown"
    training_data: str = "unknown"
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: str = ""

    @property
    def model_id(self) -> str:
        """Hash of architecture, preprocessing and weights; vectors of two ids never compare."""
        identity = {
            "architecture": dict(self.architecture),
            "preprocessing": asdict(self.preprocessing),
            "weights": self.weights_sha256,
        }
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:ID_LENGTH]

    def to_json(self) -> str:
        """The card as indented JSON, with its `model_id` for readers of the file."""
        return json.dumps(self.to_facts(), indent=2, sort_keys=True)

    def to_facts(self) -> dict[str, Any]:
        """All fields and the `model_id`, as JSON holds them."""
        return asdict(self) | {"model_id": self.model_id}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a card.

        Raises:
            CheckpointInvalid: no JSON, unknown or missing fields, or an id that doesn't match.
        """
        try:
            content = json.loads(text)
            stated = content.pop("model_id", None)
            parts = content.pop("preprocessing")
            preprocessing = Preprocessing(
                parts["input_px"], tuple(parts["mean"]), tuple(parts["std"])
            )
            card = cls(preprocessing=preprocessing, **content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointInvalid(f"the model card can't be read: {error}") from None
        if stated is not None and stated != card.model_id:
            raise CheckpointInvalid(
                f"the model card says id {stated}, its content is {card.model_id}",
                remedy="The card was edited or belongs to other weights; fetch the model again.",
            )
        return card


def read_architecture(kind: str, architecture: Mapping[str, Any], make: Callable[..., T]) -> T:
    """A configuration from a card's `architecture`.

    Args:
        kind: that it must be of.
        architecture: `{"kind": …, …fields}`; lists, as JSON has them, become tuples.
        make: makes the configuration of the fields.

    Raises:
        CheckpointInvalid: another kind, an unknown or missing field, or a wrong value.
    """
    fields = dict(architecture)
    described = fields.pop("kind", None)
    if described != kind:
        raise CheckpointInvalid(f"the card describes a model of kind {described!r}, not {kind!r}")
    try:
        tuples = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return make(**fields | tuples)
    except (TypeError, SettingError) as error:
        raise CheckpointInvalid(f"the card's architecture is wrong: {error}") from None
