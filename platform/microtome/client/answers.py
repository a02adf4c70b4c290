"""What a server answers, as frozen values whose names are those of its JSON.

A server may say more than is known here: what has no name here is left out, but stays in
`Answer.to_json()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from microtome.client.trust import SiteBias, Verdict
from microtome.errors import AnswerUnreadable
from microtome.rows import beside

Json = Mapping[str, Any]
Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class TileHit:
    """A tile, found or known.

    Attributes:
        tile_id: 32 hex digits.
        slide_id, case_id: its slide, and its case where known.
        x, y, size_px: left and top edge and side, level-0 px.
        score: cosine similarity, −1 to 1; None where nothing was compared.
        tissue: fraction that is tissue.
        sharpness: focus measure; 0 is flat.
        metadata: the manifest's columns; dates as ISO 8601 text.
    """

    tile_id: str
    slide_id: str
    case_id: str | None
    x: int
    y: int
    size_px: int
    score: float | None = None
    tissue: float | None = None
    sharpness: float | None = None
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TileMatch:
    """Two tiles that speak for a slide: one of what was asked with, one that was found."""

    query_tile: TileHit | None
    tile: TileHit
    score: float


@dataclass(frozen=True, slots=True)
class SlideHit:
    """A slide or a case that was found.

    Attributes:
        slide_id: the slide; None for a case.
        case_id: the case, where known.
        slides: all slides that are meant.
        score: the higher, the more alike.
        evidence: the tiles it comes of.
        metadata: the manifest's columns.
    """

    slide_id: str | None
    case_id: str | None
    score: float
    slides: tuple[str, ...] = ()
    evidence: tuple[TileMatch, ...] = ()
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegionHit:
    """A region that was found.

    Attributes:
        slide_id, case_id: its slide, and its case where known.
        polygon: its corners, level-0 px.
        score: similarity times coverage; 1 where all is the very same tissue.
        similarity: mean cosine of its tiles and the query, −1 to 1.
        coverage: share of the query's tissue for which there are tiles.
        angle_deg: by how much it is turned against what was asked with, clockwise.
        flipped: whether it was mirrored before that.
        tiles: the tiles it comes of.
        metadata: the manifest's columns.
    """

    slide_id: str
    case_id: str | None
    polygon: tuple[tuple[float, float], ...]
    score: float
    similarity: float | None = None
    coverage: float | None = None
    angle_deg: float = 0.0
    flipped: bool = False
    tiles: tuple[TileHit, ...] = ()
    metadata: Json = field(default_factory=dict)


Hit = TileHit | RegionHit | SlideHit


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found for one query.

    Attributes:
        level: what was looked for: tile, region, slide or case.
        model_id: whose vectors were compared.
        model_name: what that model is called.
        tiles_version: the version of the atlas that was searched.
        coverage: share of what was searched that has such a vector.
        notes: what a reader of the hits should know.
        hits: best first; of the kind that the level says.
        next_offset: `offset` of the next page; None on the last.
        method: how slides or cases were compared.
        verdict: how good the best tile is, where `alpha` was said; None where notes say why not.
        site_bias: of those `site_columns` that tell the query's site.
        remarks: how far to trust the hits: that in words.
    """

    level: str
    model_id: str
    model_name: str
    tiles_version: int
    coverage: float
    notes: tuple[str, ...]
    hits: tuple[Hit, ...]
    next_offset: int | None = None
    method: str | None = None
    verdict: Verdict | None = None
    site_bias: tuple[SiteBias, ...] = ()
    remarks: tuple[str, ...] = ()
    said: Json = field(default_factory=dict, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The answer as the server gave it, ready for `json.dumps`."""
        return dict(self.said)

    def rows(self) -> list[dict[str, Any]]:
        """The hits as rows of a table: plain columns only, the manifest's among them.

        One that is called as something of the hit itself becomes `manifest.NAME`.
        """
        return [_row(hit) for hit in self.said.get("hits", ())]


def _row(hit: Json) -> dict[str, Any]:
    plain = {name: value for name, value in hit.items() if not isinstance(value, list | dict)}
    further = hit.get("metadata") or {}
    return plain | beside(hit, further)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of pictures, ready to be asked with.

    Attributes:
        model_id, model_name: whose they are, and what that model is called.
        dim: length of each vector.
        images: per picture its vectors, one per tile that covers it; each of unit length.
    """

    model_id: str
    model_name: str
    dim: int
    images: tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class Slide:
    """A slide in the atlas; what the file doesn't say is None."""

    slide_id: str
    width_px: int
    height_px: int
    case_id: str | None = None
    size_bytes: int | None = None
    format: str | None = None
    vendor: str | None = None
    levels: int | None = None
    mpp: float | None = None
    mpp_source: str | None = None
    objective: float | None = None
    tissue_mm2: float | None = None
    tiles: int | None = None
    properties: Json = field(default_factory=dict)
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SlidePage:
    """Some of the slides, by id.

    Attributes:
        slides: of this page.
        total: slides on all pages.
        next: `cursor` of the next page; None on the last.
    """

    slides: tuple[Slide, ...]
    total: int
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a file.

    Attributes:
        data: the file's bytes, of that `media_type`.
        etag: names exactly these bytes.
    """

    data: bytes = field(repr=False)
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class AtlasFacts:
    """What the atlas holds for whoever asks.

    Attributes:
        tiles_version: newest version of its tiles.
        grid: mpp, tile_px and stride_px of its tiles.
        models: models whose vectors it holds: model_id, name, dim, licence, tiles, coverage.
        answers: id of the model that answers where none is named.
        fields: what can be filtered by, with its type.
        tiles, slides, cases: how many they may see.
    """

    tiles_version: int
    grid: Json
    models: tuple[Json, ...]
    answers: str
    fields: Mapping[str, str]
    tiles: int
    slides: int
    cases: int


def known(kind: type[Told], said: Json, /, **read: Any) -> Told:
    """What `said` holds under the names of `kind`; `read` gives what isn't plain.

    Raises:
        AnswerUnreadable: something is missing.
    """
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{name: said[name] for name in names & set(said)} | read)
    except TypeError:
        raise AnswerUnreadable(
            f"the answer isn't what {kind.__name__} should hold",
            remedy="Use a client of the server's version.",
        ) from None


def answer(said: Json) -> Answer:
    """One query's answer."""
    level, verdict = said.get("level", "tile"), said.get("verdict")
    return known(
        Answer,
        said,
        level=level,
        hits=tuple(_hit(level, hit) for hit in said.get("hits", ())),
        notes=tuple(said["notes"]),
        verdict=known(Verdict, verdict) if verdict else None,
        site_bias=tuple(known(SiteBias, bias) for bias in said.get("site_bias", ())),
        remarks=tuple(said.get("remarks", ())),
        said=said,
    )


def answers(said: Json) -> tuple[Answer, ...]:
    """Answers of several queries, in their order."""
    return tuple(answer(one) for one in said["results"])


def embedded(said: Json) -> Embedded:
    """Vectors of pictures."""
    images = (one["vectors"] for one in said["images"])
    return known(Embedded, said, images=tuple(tuple(map(tuple, vectors)) for vectors in images))


def slide_page(said: Json) -> SlidePage:
    """A page of slides."""
    return known(SlidePage, said, slides=tuple(known(Slide, one) for one in said["slides"]))


def atlas_facts(said: Json) -> AtlasFacts:
    """What the atlas holds."""
    return known(AtlasFacts, said, models=tuple(said["models"]))


def _hit(level: str, said: Json) -> Hit:
    match level:
        case "tile":
            return known(TileHit, said)
        case "region":
            corners = tuple((x, y) for x, y in said.get("polygon", ()))
            tiles = tuple(known(TileHit, tile) for tile in said.get("tiles", ()))
            return known(RegionHit, said, polygon=corners, tiles=tiles)
        case _:
            slides, evidence = tuple(said.get("slides", ())), _matches(said.get("evidence", ()))
            return known(SlideHit, said, slides=slides, evidence=evidence)


def _matches(said: Iterable[Json]) -> tuple[TileMatch, ...]:
    return tuple(
        TileMatch(
            known(TileHit, one["query_tile"]) if one.get("query_tile") else None,
            known(TileHit, one["tile"]),
            one["score"],
        )
        for one in said
    )
