"""What a server is told: one frozen value that checks itself before Ray starts.

The same value goes through a Serve config file (`serve deploy`) as the plain `args` of
`microtome_serve.app:build`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Final, Self, get_type_hints

from pydantic import TypeAdapter

from microtome.atlas.storage import check_uri, location
from microtome.config import check_fraction, check_positive, check_whole
from microtome.errors import SettingError
from microtome_serve.access import AuthSettings
from microtome_serve.limits import Limits

QUIET: Final = {"enable_access_log": False}
"""Serve's own line per request holds its path, so ids of slides; ours doesn't, see `audit`."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How one deployment of the graph grows, and how much may wait for it.

    Attributes:
        min_replicas: processes that are always there.
        max_replicas: processes at most; Serve adds some when more than `target_ongoing` requests
            are under way at each.
        cpus: cores that Ray sets aside for each.
        gpus: GPUs for each.
        max_ongoing: requests at one replica at once.
        max_queued: requests that wait for one, per caller; more are refused with 503.
        target_ongoing: requests per replica above which another is started.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    cpus: float = 0.25
    gpus: float = 0.0
    max_ongoing: int = 16
    max_queued: int = 64
    target_ongoing: float = 8.0

    def __post_init__(self) -> None:
        check_whole("min_replicas", self.min_replicas, least=1)
        check_whole("max_replicas", self.max_replicas, least=self.min_replicas)
        for name in ("cpus", "gpus"):
            if getattr(self, name) != 0:
                check_positive(name, getattr(self, name))
        check_whole("max_ongoing", self.max_ongoing, least=1)
        check_whole("max_queued", self.max_queued, least=0)
        check_positive("target_ongoing", self.target_ongoing)

    def options(self) -> dict[str, Any]:
        """What `Deployment.options` takes."""
        return {
            "max_ongoing_requests": self.max_ongoing,
            "max_queued_requests": self.max_queued,
            "backpressure_config": {"status_code": 503, "retry_after_s": 1.0},
            "max_surge_percent": 100,  # a new deployment is there before the old one goes
            "logging_config": QUIET,
            "health_check_period_s": 2.0,  # so soon a lost process is replaced
            "ray_actor_options": {"num_cpus": self.cpus, "num_gpus": self.gpus},
            "autoscaling_config": {
                "min_replicas": self.min_replicas,
                "max_replicas": self.max_replicas,
                "target_ongoing_requests": self.target_ongoing,
            },
        }


@dataclass(frozen=True, slots=True)
class Batching:
    """How tiles of several requests are embedded together.

    Attributes:
        tiles: in one call of the model, at most (a request with more is its own batch).
        wait_ms: how long the first of a batch waits for others.
    """

    tiles: int = 64
    wait_ms: float = 5.0

    def __post_init__(self) -> None:
        check_whole("batch tiles", self.tiles, least=1, most=4096)
        if self.wait_ms != 0:
            check_positive("batch wait_ms", self.wait_ms, most=1000.0)


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """One server, complete.

    Attributes:
        atlas: folder or `s3://` URI; it must exist.
        model: embeds images and regions, see `models.registry`; None takes the atlas's own.
        candidate: a model that is rolled out beside it; its vectors must be in the atlas.
        shadow: share of the queries that the candidate answers, too, in the background.
        allow_licences: non-permissive licences of weights that are allowed, by name.
        auth: who may ask.
        limits: what one request may cost.
        audit: where the line of each request goes, see `audit.install`.
        batching: of tiles.
        ingress: the deployment that speaks HTTP; what it takes waits for 48 answers at most,
            so under any load the rest is refused instead of kept waiting.
        search: the one that holds the atlas.
        embedder: the one that holds the model.
        pictures: the one that reads slides.
    """

    atlas: str
    model: str | None = None
    candidate: str | None = None
    shadow: float = 0.0
    allow_licences: tuple[str, ...] = ()
    auth: AuthSettings = field(default_factory=AuthSettings)
    limits: Limits = field(default_factory=Limits)
    audit: str = ""
    batching: Batching = field(default_factory=Batching)
    ingress: Scale = field(default_factory=lambda: Scale(max_ongoing=32, max_queued=16))
    search: Scale = field(default_factory=lambda: Scale(cpus=0.5, max_ongoing=16, max_queued=16))
    embedder: Scale = field(default_factory=lambda: Scale(cpus=0.5, max_ongoing=64))
    pictures: Scale = field(default_factory=Scale)

    def __post_init__(self) -> None:
        check_uri(self.atlas)
        check_fraction("shadow", self.shadow)

    def placed(self) -> Self:
        """The settings with files by their whole paths, which mean the same to every process."""
        tokens = self.auth.tokens and location(self.auth.tokens)
        audit = self.audit if self.audit in {"", "-"} else location(self.audit)
        auth = replace(self.auth, tokens=tokens)
        return replace(self, atlas=location(self.atlas), auth=auth, audit=audit)

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """Read the `args` of a Serve config file.

        Raises:
            SettingError: an unknown name, or a value that can't be right.
        """
        settings: Self = _read(cls, args, "args")
        return settings

    def to_args(self) -> dict[str, Any]:
        """The value as plain JSON, what `from_args` reads."""
        return asdict(self)


def _read(kind: Any, said: Any, where: str) -> Any:
    """A settings dataclass from plain values, nested ones alike."""
    if not isinstance(said, Mapping):
        raise SettingError(f"{where} must hold names and values, not {said!r}")
    known = get_type_hints(kind)
    if unknown := sorted(set(map(str, said)) - set(known)):
        raise SettingError(
            f"{where} names {', '.join(unknown)}, which a server hasn't",
            remedy=f"It knows: {', '.join(known)}.",
        )
    values = {name: _value(known[name], value, f"{where}.{name}") for name, value in said.items()}
    try:
        return kind(**values)
    except TypeError:
        raise SettingError(f"{where} lacks a value") from None


def _value(kind: Any, value: Any, where: str) -> Any:
    """A value of that type; nothing is taken for another type, or `open: "false"` would be true."""
    if is_dataclass(kind):
        return _read(kind, value, where)
    try:
        read = TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
        return tuple(read) if isinstance(read, list) else read
    except (TypeError, ValueError):  # pydantic's own is one, too
        raise SettingError(
            f"{where} can't be of the type {type(value).__name__}",
            remedy="See microtome_serve/settings.py.",
        ) from None
