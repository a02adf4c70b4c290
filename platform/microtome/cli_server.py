"""`microtome search --server`: the same question, asked of a server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from microtome.cli_asking import Wish, check_geojson, level_of, write_geojson
from microtome.client import Client
from microtome.client.answers import known
from microtome.errors import SettingError

if TYPE_CHECKING:
    from microtome.client.answers import Answer
    from microtome.client.calls import Condition, SearchOptions
    from microtome.search.query import Query

LOCAL: Final = {
    "--as-of": "a server answers from the atlas as it is now",
    "--allow-licence": "a server embeds with the models that it has loaded",
    "--gallery": "a gallery's pictures are read from the atlas's slides",
}
"""Flags that only a search in an atlas of one's own knows, and why."""

_VALUE = r"'(?:[^']|'')*'|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false"
_CONDITION = re.compile(
    rf"""\s*(?P<column>`[^`]+`|\w+)\s*
    (?:(?P<operator>=|!=|<>|<=|>=|<|>)\s*(?P<value>{_VALUE})
      |(?P<not>NOT\s+)?IN\s*\(\s*(?P<values>(?:{_VALUE})(?:\s*,\s*(?:{_VALUE}))*)\s*\))
    \s*(?P<further>AND\b|$)""",
    re.VERBOSE | re.IGNORECASE,
)


def ask_server(server: str, query: Query, wish: Wish) -> Answer:
    """Search the atlas of a server, and write the regions found where that was wished for.

    Raises:
        SettingError: a flag that a server doesn't know or that says nothing at this level, or a
            query that can't be sent.
        MicrotomeError: see `microtome.client.Client`.
    """
    for flag, why in LOCAL.items():
        if wish.said(flag):
            raise SettingError(
                f"{flag} can't be asked of a server: {why}", remedy="It is for --atlas."
            )
    level = level_of(wish, query)
    _check(wish)
    with Client(server) as client:
        options = _options(wish)
        if level == "tile":
            options |= _trusting(client, query, wish)
        answer = _ask(client, query, options)
    if wish.geojson is not None:
        write_geojson(wish.geojson, _geojson(answer))
    return answer


def _check(wish: Wish) -> None:
    """Raise `SettingError` for what a search of an atlas refuses, too."""
    from microtome.search.result import SearchSettings

    SearchSettings(
        k=wish.k,
        exclude=wish.exclude,
        query_mpp=wish.query_mpp,
        spread=wish.spreading,
        min_score=wish.min_score,
        calibrating=wish.calibrating,
    )
    if wish.geojson is not None:
        check_geojson(wish.geojson)


def _geojson(answer: Answer) -> dict[str, Any]:
    from microtome.search.region_result import RegionHit, feature_collection

    hits = answer.to_json()["hits"]
    return feature_collection([known(RegionHit, hit, tiles=()) for hit in hits])


def _options(wish: Wish) -> SearchOptions:
    spread = wish.spreading
    return {
        "level": wish.level,
        "k": wish.k,
        "filter": conditions_of(wish.where) if wish.where is not None else (),
        "exclude": wish.exclude,
        "min_score": wish.min_score,
        "spread": (spread.column, spread.most) if spread else None,
        "model": wish.model,
        "query_mpp": wish.query_mpp,
        "exact": wish.exact,
        "method": wish.method,
    }


def _trusting(client: Client, query: Query, wish: Wish) -> SearchOptions:
    """What makes a server tell how far its hits can be trusted, as a search of an atlas does.

    By a tile it answers at once, so it counts nothing that nobody asked for; pictures from outside
    are of no site.
    """
    from microtome.search.query import RegionQuery
    from microtome.search.site_bias import usual_among

    columns = tuple(wish.site_column or ())
    if not columns and isinstance(query, RegionQuery):
        columns = usual_among(client.atlas().fields)
    return {"alpha": wish.told_alpha, "site_columns": columns}


def _ask(client: Client, query: Query, options: SearchOptions) -> Answer:
    from microtome.search import query as queries
    from microtome.search.polygon_query import PolygonQuery

    match query:
        case queries.ImageQuery():
            return client.search_image(query.text, **options)
        case queries.TileQuery():
            return client.search_tile(query.tile_id, **options)
        case queries.RegionQuery():
            box = query.x, query.y, query.width_px, query.height_px
            return client.search_region(query.slide, box, **options)
        case PolygonQuery():
            return client.search_polygon(query.slide, query.corners, **options)
        case queries.SlideQuery():
            return client.search_slide(query.slide_id, **options)
        case queries.CaseQuery():
            return client.search_case(query.case_id, **options)
        case _:
            raise SettingError(
                f"{query.text} can't be asked of a server", remedy="Ask an atlas by --atlas."
            )


def conditions_of(where: str) -> list[Condition]:
    """Conditions as a server takes them, which runs no SQL of others.

    Args:
        where: `column = value`, also with !=, <, <=, >, >= and [NOT] IN (…), joined by AND.

    Raises:
        SettingError: it says more than that.
    """
    conditions: list[Condition] = []
    place, further = 0, "AND"
    while further:
        found = _CONDITION.match(where, place)
        if found is None:
            raise SettingError(
                f"the filter {where!r} can't be sent to a server",
                remedy="Write conditions such as site = 'north' or tissue > 0.8 or site IN ('a', "
                "'b'), joined by AND.",
            )
        conditions.append(_condition(found))
        place, further = found.end(), found["further"]
    return conditions


def _condition(found: re.Match[str]) -> Condition:
    column = found["column"].strip("`")
    if found["operator"]:
        operator = "!=" if found["operator"] == "<>" else found["operator"]
        return column, operator, _value(found["value"])
    values = [_value(value) for value in re.findall(_VALUE, found["values"], re.IGNORECASE)]
    return column, "not_in" if found["not"] else "in", values


def _value(text: str) -> Any:
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
