"""Every request of the API, described once for both clients: what is sent, how it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from microtome.client import answers
from microtome.errors import AnswerUnreadable, QueryUnreadable, SettingError, SlideUnknown

T = TypeVar("T")
Box = tuple[int, int, int, int]
"""x, y, width and height, level-0 px."""

Corners = Sequence[tuple[float, float]]
"""x and y of each in order, level-0 px."""

Vectors = Sequence[Sequence[float]]
Image = bytes | str | Path
"""A picture's bytes, or a file of this machine."""

Answers = tuple[answers.Answer, ...]
"""One per query, in their order."""

Condition = tuple[str, str, Any]
"""Field, operator (=, !=, <, <=, >, >=, in, not_in, exists) and value."""


class SearchOptions(TypedDict, total=False):
    """What is to be found.

    level: tile, region, slide or case; without it regions by polygon, slides by slide, cases by
        case, else tiles.
    k: hits on a page.
    offset: hits before it.
    filter: conditions that all must hold.
    exclude: none, slide, case or group:COLUMN, of the query's own.
    min_score: least score of a hit.
    spread: (column, most): at most so many hits per value of a column.
    model: name or id of the model to compare by.
    query_mpp: µm per pixel of a picture.
    exact: compare with every vector, past any index.
    method: mosaic, mean or votes: how slides and cases are compared.
    alpha: have it told whether the best tile is a good match: of queries that have one, at most
        this share is said to have none.
    site_columns: have it told how much of the ranking of tiles these columns explain.
    """

    level: Literal["tile", "region", "slide", "case"] | None
    k: int
    offset: int
    filter: Sequence[Condition]
    exclude: str
    min_score: float | None
    spread: tuple[str, int] | None
    model: str | None
    query_mpp: float | None
    exact: bool
    method: Literal["mosaic", "mean", "votes"] | None
    alpha: float | None
    site_columns: Sequence[str]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and what its answer means.

    Attributes:
        method: of HTTP.
        path: from the server's address on.
        read: makes the result of a good answer.
        params: of the query; None is left out.
        body: JSON to send.
        form: fields of a form.
        files: of that form: (field, (name, bytes)).
    """

    method: Literal["GET", "POST"]
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    form: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[tuple[str, tuple[str, bytes]]] = ()

    def request(self, http: httpx.Client | httpx.AsyncClient, timeout_s: float) -> httpx.Request:
        """The request as `http` sends it, and waits for each part of the answer."""
        return http.build_request(
            self.method,
            self.path,
            params={name: value for name, value in self.params.items() if value is not None},
            json=self.body,
            data=dict(self.form) or None,
            files=list(self.files) or None,
            timeout=timeout_s,
        )


def search(queries: Sequence[Mapping[str, Any]], options: SearchOptions) -> Call[Answers]:
    """`POST /v1/search`."""
    body = {"queries": [dict(query) for query in queries]} | wanted(options)
    return Call("POST", "/v1/search", _json(answers.answers), body=body)


def search_image(images: Sequence[Image], options: SearchOptions) -> Call[Answers]:
    """`POST /v1/search/image`."""
    form = {"options": json.dumps(wanted(options))}
    return Call("POST", "/v1/search/image", _json(answers.answers), form=form, files=_files(images))


def embed(
    images: Sequence[Image], query_mpp: float | None, model: str | None
) -> Call[answers.Embedded]:
    """`POST /v1/embed`."""
    said = {"query_mpp": query_mpp, "model": model}
    form = {name: str(value) for name, value in said.items() if value is not None}
    return Call("POST", "/v1/embed", _json(answers.embedded), form=form, files=_files(images))


def slides(
    limit: int, cursor: str | None, conditions: Sequence[Condition]
) -> Call[answers.SlidePage]:
    """`GET /v1/slides`."""
    chosen = json.dumps(_conditions(conditions)) if conditions else None
    params = {"limit": limit, "cursor": cursor, "filter": chosen}
    return Call("GET", "/v1/slides", _json(answers.slide_page), params)


def slide(slide_id: str) -> Call[answers.Slide]:
    """`GET /v1/slides/{slide_id}`."""
    return Call("GET", _of_slide(slide_id), _json(lambda said: answers.known(answers.Slide, said)))


def thumbnail(slide_id: str) -> Call[answers.Picture]:
    """`GET /v1/slides/{slide_id}/thumbnail`."""
    return Call("GET", f"{_of_slide(slide_id)}/thumbnail", _picture)


def tile(tile_id: str) -> Call[answers.TileHit]:
    """`GET /v1/tiles/{tile_id}`."""
    return Call(
        "GET",
        f"/v1/tiles/{quote(tile_id, safe='')}",
        _json(lambda said: answers.known(answers.TileHit, said)),
    )


def tile_picture(tile_id: str, form: str, size: int | None) -> Call[answers.Picture]:
    """`GET /v1/tiles/{tile_id}/picture`."""
    params = {"format": form, "size": size}
    return Call("GET", f"/v1/tiles/{quote(tile_id, safe='')}/picture", _picture, params)


def atlas() -> Call[answers.AtlasFacts]:
    """`GET /v1/atlas`."""
    return Call("GET", "/v1/atlas", _json(answers.atlas_facts))


def ready() -> Call[bool]:
    """`GET /readyz`; what isn't good is an error, as of any call."""
    return Call("GET", "/readyz", lambda _: True)


def by_tile(tile_id: str) -> dict[str, Any]:
    """A tile of the atlas, as a query."""
    return {"kind": "tile", "tile_id": tile_id}


def by_region(slide_id: str, box: Box) -> dict[str, Any]:
    """A rectangle of a slide (x, y, width, height; level-0 px), as a query."""
    x, y, width_px, height_px = box
    place = {"x": x, "y": y, "width_px": width_px, "height_px": height_px}
    return {"kind": "region", "slide_id": slide_id} | place


def by_polygon(slide_id: str, corners: Corners) -> dict[str, Any]:
    """A drawn region of a slide, as a query.

    Raises:
        QueryUnreadable: a corner lies nowhere.
    """
    told = [[float(x), float(y)] for x, y in corners]
    if not all(math.isfinite(value) for corner in told for value in corner):
        raise QueryUnreadable("corners are finite numbers")
    return {"kind": "polygon", "slide_id": slide_id, "corners": told}


def by_slide(slide_id: str) -> dict[str, Any]:
    """A whole slide, as a query."""
    return {"kind": "slide", "slide_id": slide_id}


def by_case(case_id: str) -> dict[str, Any]:
    """All slides of a case, as a query."""
    return {"kind": "case", "case_id": case_id}


def by_vector(vectors: Vectors) -> dict[str, Any]:
    """Vectors (rows of any array), as a query.

    Raises:
        QueryUnreadable: they hold something that is no finite number.
    """
    try:
        told = [[float(value) for value in vector] for vector in vectors]
    except (TypeError, ValueError):
        told = [[math.nan]]
    if not all(math.isfinite(value) for vector in told for value in vector):
        raise QueryUnreadable("vectors are rows of finite numbers")
    return {"kind": "vector", "vectors": told}


def wanted(options: SearchOptions) -> dict[str, Any]:
    """The options as the API's JSON.

    Raises:
        SettingError: one is no finite number, which JSON can't say.
    """
    said: dict[str, Any] = {**options}
    for name, value in said.items():
        _check_finite(name, value)
    if "filter" in said:
        said["filter"] = _conditions(said["filter"])
    if said.get("spread"):
        column, most = said["spread"]
        said["spread"] = {"field": column, "most": most}
    return said


def _conditions(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    for column, _, value in conditions:
        for one in value if isinstance(value, list | tuple) else [value]:
            _check_finite(f"a filter's value of {column}", one)
    return [
        {"field": column, "operator": operator, "value": value}
        for column, operator, value in conditions
    ]


def _check_finite(name: str, value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(f"{name} must be a finite number, not {value!r}")


def _of_slide(slide_id: str) -> str:
    if slide_id in {".", ".."}:  # in a path they mean another place, however they are written
        raise SlideUnknown("the atlas holds no such slide or case")
    return f"/v1/slides/{quote(slide_id, safe='')}"


def _files(images: Sequence[Image]) -> list[tuple[str, tuple[str, bytes]]]:
    """Pictures as parts of a form; files' names stay here, they may be a patient's."""
    return [("images", (f"picture-{n}", _bytes(one))) for n, one in enumerate(images, start=1)]


def _bytes(image: Image) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such name is possible"
        raise QueryUnreadable(f"{image} can't be read: {reason}") from None


def _json(read: Callable[[Any], T]) -> Callable[[httpx.Response], T]:
    """Reads an answer's JSON with `read`."""

    def reading(response: httpx.Response) -> T:
        try:
            return read(response.json())
        except (ValueError, KeyError, TypeError, AttributeError):
            raise AnswerUnreadable(
                f"{response.url.path} of {response.url.host} isn't answered as by Microtome",
                remedy="Check the server's address and version.",
            ) from None

    return reading


def _picture(response: httpx.Response) -> answers.Picture:
    headers = response.headers
    return answers.Picture(
        response.content, headers.get("content-type", ""), headers.get("etag", "")
    )
