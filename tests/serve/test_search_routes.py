"""What the server answers to a search: the same as the library, over HTTP."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from microtome.atlas.atlas import Atlas
from support.coloured_atlas import COLOURS
from support.served_atlas import BY_ID, MODEL, encoder_of
from support.waiting import until

pytestmark = [pytest.mark.ray]


def picture_of(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), COLOURS[colour]).save(file, "PNG")
    return file.getvalue()


def vector_of(colour: str) -> list[float]:
    tile = np.full((1, 64, 64, 3), COLOURS[colour], np.uint8)
    return encoder_of(MODEL).encode(tile)[0].tolist()


def colour_of(hit: dict) -> str:
    return BY_ID[hit["slide_id"]].colour_at(hit["x"], hit["y"])


def found(http, query: dict, **options) -> dict:
    response = http.post("/v1/search", json={"queries": [query], **options})
    assert response.status_code == 200, response.text
    return response.json()["results"][0]


@pytest.fixture(scope="module")
def tile(served_folder) -> dict:
    """A pink tile of north/a."""
    tiles = Atlas.open(str(served_folder / "atlas")).tiles
    where = "slide_id = 'north/a' AND x = 0 AND y = 0"
    return tiles.to_table(columns=["tile_id", "slide_id", "x", "y"], filter=where).to_pylist()[0]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_vector_finds_tiles_of_its_colour(http, colour):
    hits = found(http, {"kind": "vector", "vectors": [vector_of(colour)]}, k=3)["hits"]

    assert [colour_of(hit) for hit in hits] == [colour] * 3


@pytest.mark.parametrize("colour", COLOURS)
def test_a_picture_finds_tiles_of_its_colour(http, colour):
    sent = {"images": ("crop.png", picture_of(colour), "image/png")}
    response = http.post("/v1/search/image", files=sent, data={"options": json.dumps({"k": 3})})

    assert response.status_code == 200, response.text
    (answer,) = response.json()["results"]
    assert [colour_of(hit) for hit in answer["hits"]] == [colour] * 3


def test_a_tile_is_its_own_first_hit(http, tile):
    first = found(http, {"kind": "tile", "tile_id": tile["tile_id"]}, k=1)["hits"][0]

    assert first["tile_id"] == tile["tile_id"]
    assert first["score"] == pytest.approx(1, abs=0.001)


def test_a_region_of_a_slide_finds_its_colour_in_other_cases(http):
    region = {"slide_id": "north/a", "x": 0, "y": 0, "width_px": 64, "height_px": 64}
    hits = found(http, {"kind": "region", **region}, k=3, exclude="case")["hits"]

    assert {colour_of(hit) for hit in hits} == {"pink"}
    assert not {hit["case_id"] for hit in hits} & {"case 1"}


def test_several_queries_are_answered_in_their_order(http):
    queries = [{"kind": "vector", "vectors": [vector_of(colour)]} for colour in COLOURS]
    results = http.post("/v1/search", json={"queries": queries, "k": 1}).json()["results"]

    assert [colour_of(one["hits"][0]) for one in results] == list(COLOURS)


def test_pages_are_the_ranking_cut_in_parts(http):
    query = {"kind": "vector", "vectors": [vector_of("pink")]}
    whole = found(http, query, k=22)
    first = found(http, query, k=15)
    second = found(http, query, k=15, offset=first["next_offset"])

    assert first["hits"] + second["hits"] == whole["hits"]
    assert second["next_offset"] is None


def test_only_what_fulfils_the_filter_is_found(http):
    query = {"kind": "vector", "vectors": [vector_of("pink")]}
    site = {"field": "site", "operator": "=", "value": "south"}
    hits = found(http, query, k=50, filter=[site])["hits"]

    assert {hit["slide_id"] for hit in hits} == {"south/c", "south/d"}


def test_embedded_pictures_can_be_asked_with(http):
    sent = [("images", (f"{one}.png", picture_of(one), "image/png")) for one in COLOURS]
    embedded = http.post("/v1/embed", files=sent).json()

    for colour, image in zip(COLOURS, embedded["images"], strict=True):
        np.testing.assert_allclose(image["vectors"], [vector_of(colour)], atol=0.001)
    queries = [{"kind": "vector", **image} for image in embedded["images"]]
    results = http.post("/v1/search", json={"queries": queries, "k": 1}).json()["results"]
    assert [colour_of(one["hits"][0]) for one in results] == list(COLOURS)


# what is asked, and what of it the refusal names
REFUSED = {
    "no query": ({"queries": []}, 422, "queries"),
    "k of 0": ({"queries": [{"kind": "slide", "slide_id": "a"}], "k": 0}, 422, "k"),
    "a huge k": ({"queries": [{"kind": "tile", "tile_id": "0" * 32}], "k": 50_000}, 422, "1000"),
    "an unknown tile": ({"queries": [{"kind": "tile", "tile_id": "0" * 32}]}, 404, "tile"),
    "an unknown slide": (
        {
            "queries": [
                {"kind": "region", "slide_id": "x", "x": 0, "y": 0, "width_px": 9, "height_px": 9}
            ]
        },
        404,
        "slide",
    ),
    "a file as a slide": (
        {
            "queries": [
                {
                    "kind": "region",
                    "slide_id": "/etc/passwd",
                    "x": 0,
                    "y": 0,
                    "width_px": 9,
                    "height_px": 9,
                }
            ]
        },
        404,
        "slide",
    ),
    "another dimension": ({"queries": [{"kind": "vector", "vectors": [[1.0, 2.0]]}]}, 422, "268"),
    "vectors of two lengths": (
        {"queries": [{"kind": "vector", "vectors": [[1.0], [1.0, 2.0]]}]},
        422,
        "vectors",
    ),
    "a null vector": ({"queries": [{"kind": "vector", "vectors": [[0.0] * 268]}]}, 422, "vector"),
    "a column that isn't there": (
        {
            "queries": [{"kind": "tile", "tile_id": "0" * 32}],
            "spread": {"field": "site` = '' OR `site", "most": 1},
        },
        422,
        "column",
    ),
    "an unknown field of a filter": (
        {
            "queries": [{"kind": "vector", "vectors": [[1.0] * 268]}],
            "filter": [{"field": "1=1 --", "operator": "=", "value": 1}],
        },
        422,
        "field",
    ),
}


@pytest.mark.parametrize(("asked", "status", "named"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_answered_is_refused_by_name(http, asked, status, named):
    response = http.post("/v1/search", json=asked)

    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert named in response.text


def test_not_a_number_is_no_vector(http):
    body = json.dumps({"queries": [{"kind": "vector", "vectors": [[float("nan")] * 268]}]})
    response = http.post("/v1/search", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == 422


def test_no_refusal_names_where_the_atlas_lies(http, served_folder):
    query = {"kind": "vector", "vectors": [vector_of("pink")]}
    response = http.post("/v1/search", json={"queries": [query], "model": "another"})

    assert response.status_code == 422
    assert str(served_folder) not in response.text


def test_a_server_that_is_ready_says_so(http):
    assert http.get("/healthz").json() == {"status": "ok"}
    until(lambda: http.get("/readyz").json() == {"status": "ready"})


def test_the_atlas_is_told_with_its_counts(http):
    facts = http.get("/v1/atlas").json()

    assert (facts["tiles"], facts["slides"], facts["cases"]) == (22, 5, 3)
    assert facts["models"][0]["coverage"] == 1
    assert facts["models"][0]["model_id"] == facts["answers"]
    assert facts["fields"]["site"] == "string"


def test_a_slide_finds_slides_with_tiles_as_evidence(http):
    hits = found(http, {"kind": "slide", "slide_id": "north/a"}, exclude="slide")["hits"]

    assert {hit["slide_id"] for hit in hits} == set(BY_ID) - {"north/a"}
    assert all(match["tile"]["slide_id"] == hits[0]["slide_id"] for match in hits[0]["evidence"])


def test_a_case_finds_cases(http):
    hits = found(http, {"kind": "case", "case_id": "case 1"}, exclude="case")["hits"]

    assert {"case 2", "case 3"} <= {hit["case_id"] for hit in hits}
    assert "case 1" not in {hit["case_id"] for hit in hits}


def test_a_polygon_finds_itself_among_regions(http):
    corners = [[0, 0], [128, 0], [128, 128], [0, 128]]
    polygon = {"kind": "polygon", "slide_id": "north/a", "corners": corners}
    answer = found(http, polygon, k=1)

    assert answer["level"] == "region"
    assert answer["hits"][0]["slide_id"] == "north/a"
