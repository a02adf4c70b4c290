"""The published LGFFEM's settings: three YAML files that are merged, taken as they are.

backbone file   BACKBONE: {MODEL_NAME, OUT_INDICES}   NECK: {IN_CHANNELS}
neck file       NECK: {NUM_CHANNELS, NUM_LAYERS}
head file       HEAD: {P, EPS}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microtome.config import check_positive, check_whole, read_settings_file
from microtome.errors import SettingError
from microtome.models.backbone import TimmNetwork, scale_channels
from microtome.models.lgffem import FIRST_FOUR_SCALES, LgffemConfig
from microtome.models.neck import GLOBAL_SQUEEZE

BACKBONES = {
    "00_convnext": ("convnext_tiny", (96, 192, 384, 768)),
    "01_convnext": ("convnext_base", (128, 256, 512, 1024)),
    "10_convnextv2": ("convnextv2_tiny.fcmae", (96, 192, 384, 768)),
    "11_convnextv2": ("convnextv2_base.fcmae", (128, 256, 512, 1024)),
    "20_caformer": ("caformer_s18.sail_in22k_ft_in1k_384", (64, 128, 320, 512)),
    "21_caformer": ("caformer_b36.sail_in22k_ft_in1k_384", (128, 256, 512, 768)),
    "30_regnety": ("regnety_080_tv.tv2_in1k", (32, 224, 448, 896)),
    "31_regnety": ("regnety_320.tv2_in1k", (32, 232, 696, 1392)),
    "40_coatnet": ("coatnet_1_rw_224.sw_in1k", (64, 96, 192, 384)),
    "41_coatnet": ("coatnet_3_rw_224.sw_in12k", (192, 192, 384, 768)),
}
"""File to timm's name and the channels of its first four scales."""

NECKS = {
    "00_neck_128_3": (128, 3),
    "01_neck_256_1": (256, 1),
    "01_neck_256_2": (256, 2),
    "01_neck_256_3": (256, 3),
    "01_neck_256_4": (256, 4),
    "01_neck_256_5": (256, 5),
    "02_neck_512_3": (512, 3),
}
"""File to channels and layers."""

HEADS = {"00_head_A": (4.6, 1e-6)}
"""File to GeM's first exponent and its floor."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, with the words that an error needs.

    Attributes:
        key: `SECTION.NAME`.
        value: as the YAML parser gives it.
        file: whence, as the user named it.
    """

    key: str
    value: Any
    file: str

    @property
    def place(self) -> str:
        """Key and file, as an error names them."""
        return f"{self.key} in {self.file}"

    def wrong(self, must_be: str) -> SettingError:
        """The error that says what it must be."""
        return SettingError(f"{self.place} must be {must_be}, not {self.value!r}")


def read_reference_settings(backbone: str, neck: str, head: str) -> LgffemConfig:
    """Merge the three files into the config of the published architecture.

    Raises:
        SettingError: a file can't be read, or a key is unknown, missing, given twice or can't be
            right; it names the key and the file.
        ModelNotFound: timm has no network of that name.
    """
    settings: dict[str, Setting] = {}
    for file in (backbone, neck, head):
        for setting in _read(file):
            if setting.key in settings:
                other = settings[setting.key].file
                raise SettingError(f"{setting.place} is given in {other} already")
            settings[setting.key] = setting
    missing = sorted(READERS.keys() - settings.keys())
    if missing:
        raise SettingError(
            f"{', '.join(missing)} stands in none of {backbone}, {neck} and {head}",
            remedy="Name the backbone's file, the neck's and the head's, in this order.",
        )
    values = {key: READERS[key](setting) for key, setting in settings.items()}
    _check_channels(settings["NECK.IN_CHANNELS"], values["BACKBONE.MODEL_NAME"])
    return LgffemConfig(
        backbone=values["BACKBONE.MODEL_NAME"],
        neck_channels=values["NECK.NUM_CHANNELS"],
        neck_layers=values["NECK.NUM_LAYERS"],
        gem_p=values["HEAD.P"],
        gem_eps=values["HEAD.EPS"],
        reference=True,
    )


def _read(file: str) -> list[Setting]:
    """The settings of one file, none of them unknown."""
    settings = []
    for section, content in read_settings_file(file).items():
        if not isinstance(content, Mapping):
            raise SettingError(f"{section} in {file} must be a table of names and values")
        for name, value in content.items():
            setting = Setting(f"{section}.{name}", value, file)
            if setting.key not in READERS:
                raise SettingError(
                    f"{setting.place} is no setting of the reference",
                    remedy=f"It knows {', '.join(READERS)}.",
                )
            settings.append(setting)
    return settings


def _name(setting: Setting) -> str:
    if not isinstance(setting.value, str) or not setting.value:
        raise setting.wrong("the name of a timm network")
    return setting.value


def _first_four(setting: Setting) -> Sequence[int]:
    if setting.value != list(FIRST_FOUR_SCALES):
        raise setting.wrong(f"{list(FIRST_FOUR_SCALES)}, as in all files of the reference")
    return FIRST_FOUR_SCALES


def _four_counts(setting: Setting) -> list[int]:
    counts = setting.value
    if not isinstance(counts, list) or len(counts) != len(FIRST_FOUR_SCALES):
        raise setting.wrong("a list of four whole numbers")
    for count in counts:
        check_whole(setting.place, count, least=1)
    return counts


def _channels(setting: Setting) -> int:
    check_whole(setting.place, setting.value, least=GLOBAL_SQUEEZE, most=4096)
    if setting.value % GLOBAL_SQUEEZE:
        raise setting.wrong(f"a multiple of {GLOBAL_SQUEEZE}")
    return int(setting.value)


def _layers(setting: Setting) -> int:
    check_whole(setting.place, setting.value, least=1, most=32)
    return int(setting.value)


def _exponent(setting: Setting) -> float:
    value = _number(setting)
    if not 1 < value <= 100:
        raise setting.wrong("above 1 and at most 100")
    return value


def _floor(setting: Setting) -> float:
    value = _number(setting)
    check_positive(setting.place, value, most=1.0)
    return value


def _number(setting: Setting) -> float:
    """A number; YAML 1.1 takes `1e-6`, as the reference writes it, for text."""
    try:
        if isinstance(setting.value, bool):
            raise TypeError
        return float(setting.value)
    except (TypeError, ValueError):
        raise setting.wrong("a number") from None


def _check_channels(counts: Setting, backbone: str) -> None:
    actual = list(scale_channels(TimmNetwork(backbone), FIRST_FOUR_SCALES))
    if counts.value != actual:
        raise counts.wrong(f"{actual}, the channels of {backbone}")


READERS: dict[str, Callable[[Setting], Any]] = {
    "BACKBONE.MODEL_NAME": _name,
    "BACKBONE.OUT_INDICES": _first_four,
    "NECK.IN_CHANNELS": _four_counts,
    "NECK.NUM_CHANNELS": _channels,
    "NECK.NUM_LAYERS": _layers,
    "HEAD.P": _exponent,
    "HEAD.EPS": _floor,
}
