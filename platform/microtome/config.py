"""Settings: frozen values that check themselves, from flags or from one file.

A wrong value raises `SettingError` when the value is made, so before any work starts. A settings
file is TOML or YAML whose keys are the long flags (`tile-px` or `tile_px`); flags win over it. Its
table `storage` says which object store is meant; the AWS variables win over that.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from microtome.errors import SettingError, SlideError

MAX_TILE_PX = 4096
STORAGE_VARIABLES = {
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "profile": ("AWS_PROFILE",),
    "ca_bundle": ("AWS_CA_BUNDLE",),
}
"""What a settings file may say of an object store, and the variables that say the same."""
Precision = Literal["auto", "fp32", "bf16", "fp16"]
ReaderChoice = Literal["auto", "tiff", "openslide"]


@dataclass(frozen=True, slots=True)
class GridSettings:
    """Where tiles lie: one atlas has exactly one grid.

    Attributes:
        mpp: wanted resolution of a tile, µm per pixel.
        tile_px: side of a tile at that resolution, in pixels.
        stride_px: step between tile corners at that resolution; less than `tile_px` overlaps.
    """

    mpp: float = 0.5
    tile_px: int = 224
    stride_px: int = 224

    def __post_init__(self) -> None:
        check_positive("mpp", self.mpp, most=100.0)
        check_whole("tile_px", self.tile_px, least=16, most=MAX_TILE_PX)
        check_whole("stride_px", self.stride_px, least=1, most=MAX_TILE_PX)

    @property
    def key(self) -> str:
        """The grid in one short string, part of every tile id, e.g. `0.5um-224px-224px`."""
        return f"{self.mpp:g}um-{self.tile_px}px-{self.stride_px}px"


@dataclass(frozen=True, slots=True)
class MppSettings:
    """Who may say how large a pixel is when the slide itself doesn't; nobody, unless allowed.

    Order: the slide, the manifest, the objective (if allowed), the assumed value, else a failure.

    Attributes:
        assume_mpp: µm per level-0 pixel to take where nothing else is known.
        from_objective: derive it as 10 / objective power, the usual 0.25 at 40× and 0.5 at 20×.
    """

    assume_mpp: float | None = None
    from_objective: bool = False

    def __post_init__(self) -> None:
        if self.assume_mpp is not None:
            check_positive("assume_mpp", self.assume_mpp, most=100.0)


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """One indexing job, complete.

    Attributes:
        sources: files, folders, globs or fsspec URIs of slides.
        atlas: folder or `s3://` URI.
        manifest: CSV or Parquet beside the slides, or None.
        model: `tissue`, `starter`, a model folder, or a timm name; see `models.registry`.
        grid: where tiles lie.
        mpp: who may say how large a pixel is.
        reader: how slides are read; `auto` chooses for each.
        min_tissue: least fraction of a tile that is tissue, 0 to 1.
        batch_size: tiles per call of the model.
        workers: how many processes embed; 0 takes what the cluster has.
        cpus_per_worker: cores of each, for decoding and, without a GPU, for the model.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        wave_slides: slides that become visible in one commit, at most.
        wave_s: seconds after which what is finished is committed, even if it is fewer slides.
        allow_licences: non-permissive licences of weights that are allowed, by name.
        retry_failed: causes of earlier failures to try again although they lie in the file itself;
            `all` is each.
    """

    sources: tuple[str, ...]
    atlas: str
    manifest: str | None = None
    model: str = "tissue"
    grid: GridSettings = field(default_factory=GridSettings)
    mpp: MppSettings = field(default_factory=MppSettings)
    reader: ReaderChoice = "auto"
    min_tissue: float = 0.5
    batch_size: int = 64
    workers: int = 0
    cpus_per_worker: int = 0
    precision: Precision = "auto"
    wave_slides: int = 16
    wave_s: float = 30.0
    allow_licences: tuple[str, ...] = ()
    retry_failed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.sources:
            raise SettingError("name at least one SOURCE: a slide, a folder, a glob or a URI")
        check_fraction("min_tissue", self.min_tissue)
        check_whole("batch_size", self.batch_size, least=1, most=4096)
        check_whole("workers", self.workers, least=0)
        check_whole("cpus_per_worker", self.cpus_per_worker, least=0)
        check_choice("reader", self.reader, get_args(ReaderChoice))
        check_choice("precision", self.precision, get_args(Precision))
        check_whole("wave_slides", self.wave_slides, least=1)
        check_positive("wave_s", self.wave_s)
        causes = ("all", *sorted(error.cause for error in SlideError.__subclasses__()))
        for cause in self.retry_failed:
            check_choice("retry_failed", cause, causes)


@dataclass(frozen=True, slots=True)
class EmbedSettings:
    """One job that gives the tiles of an atlas the vectors of a further model.

    Attributes:
        atlas: folder or `s3://` URI; it must exist.
        model: as in `IndexSettings`.
        batch_size: tiles per call of the model.
        workers: as in `IndexSettings`.
        cpus_per_worker: as in `IndexSettings`.
        precision: as in `IndexSettings`.
        wave_slides: slides whose vectors are kept in one commit, at most.
        wave_s: seconds after which what is finished is committed, even if it is fewer slides.
        allow_licences: non-permissive licences of weights that are allowed, by name.
    """

    atlas: str
    model: str
    batch_size: int = 64
    workers: int = 0
    cpus_per_worker: int = 0
    precision: Precision = "auto"
    wave_slides: int = 16
    wave_s: float = 30.0
    allow_licences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole("batch_size", self.batch_size, least=1, most=4096)
        check_whole("workers", self.workers, least=0)
        check_whole("cpus_per_worker", self.cpus_per_worker, least=0)
        check_choice("precision", self.precision, get_args(Precision))
        check_whole("wave_slides", self.wave_slides, least=1)
        check_positive("wave_s", self.wave_s)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `SettingError` unless `value` is one of `choices`."""
    if value not in choices:
        raise SettingError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_positive(name: str, value: float, *, most: float = math.inf) -> None:
    """Raise `SettingError` unless `value` is a finite number in (0, most]."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingError(f"{name} must be a number, not {value!r}")
    if not (math.isfinite(value) and 0 < value <= most):
        limit = f" and at most {most:g}" if math.isfinite(most) else ""
        raise SettingError(f"{name} must be above 0{limit}, not {value!r}")


def check_whole(name: str, value: int, *, least: int, most: int | None = None) -> None:
    """Raise `SettingError` unless `value` is a whole number in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingError(f"{name} must be a whole number, not {value!r}")
    if value < least or (most is not None and value > most):
        limit = f"from {least} to {most}" if most is not None else f"at least {least}"
        raise SettingError(f"{name} must be {limit}, not {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Raise `SettingError` unless `value` lies in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SettingError(f"{name} must be between 0 and 1, not {value!r}")


def read_settings_file(path: str | Path) -> dict[str, Any]:
    """Read a TOML or YAML settings file into flag names with underscores.

    Raises:
        SettingError: the file is missing, isn't TOML or YAML, or isn't one flat table.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"the settings file {path} can't be read: {error}") from None
    settings = _parse(path, text)
    if not isinstance(settings, Mapping):
        raise SettingError(f"the settings file {path} must hold one table of names and values")
    return {str(name).replace("-", "_"): value for name, value in settings.items()}


def apply_storage(path: str, settings: Any, environ: MutableMapping[str, str] = os.environ) -> None:
    """Set the AWS variables that the table `storage` of a settings file stands for.

    Raises:
        SettingError: it holds anything but `STORAGE_VARIABLES`; keys are secrets and belong in
            the environment or a profile.
    """
    said = settings if isinstance(settings, Mapping) else {"storage": settings}
    for name, value in said.items():
        variables = STORAGE_VARIABLES.get(str(name).replace("-", "_"))
        if not (variables and isinstance(value, str)):
            raise SettingError(
                f"the settings file {path} says {name!r} of the storage, which isn't understood",
                remedy=f"It takes the texts {', '.join(STORAGE_VARIABLES)}; give keys by "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by a profile.",
            )
        if not any(environ.get(variable) for variable in variables):
            environ[variables[0]] = value


def storage_place(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that say where the object store is: the same for every process of a job."""
    names = (*STORAGE_VARIABLES["endpoint"], *STORAGE_VARIABLES["region"])
    return {name: environ[name] for name in names if environ.get(name)}


def _parse(path: Path, text: str) -> Any:
    if path.suffix == ".toml":
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingError(f"the settings file {path} is no valid TOML: {error}") from None
    if path.suffix in {".yaml", ".yml"}:
        import yaml

        try:
            return yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise SettingError(f"the settings file {path} is no valid YAML: {error}") from None
    raise SettingError(f"the settings file {path} must end in .toml, .yaml or .yml")
