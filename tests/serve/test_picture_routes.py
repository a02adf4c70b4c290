"""Slides and pictures over HTTP, asked by hand and by the client."""

from __future__ import annotations

import asyncio
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from microtome.client import AsyncClient, Client, by_tile
from microtome.client.answers import TileHit
from microtome.errors import FilterInvalid, ServerRefused, SlideUnknown, TileNotFound
from support.coloured_atlas import COLOURS
from support.served_atlas import BY_ID
from support.waiting import until

pytestmark = [pytest.mark.ray]


@pytest.fixture(scope="module")
def client(server):
    with Client(server) as client:
        yield client


@pytest.fixture(scope="module")
def tile(client):
    return client.search_vector([[1.0] * client.atlas().models[0]["dim"]], k=1).hits[0]


def pixels_of(response):
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
def test_a_hit_is_shown(http, tile, form):
    response = http.get(f"/v1/tiles/{tile.tile_id}/picture", params={"format": form, "size": 48})
    assert response.headers["content-type"] == f"image/{form}"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "private" in response.headers["cache-control"]
    colour = COLOURS[BY_ID[tile.slide_id].colour_at(tile.x, tile.y)]
    assert np.abs(pixels_of(response).mean(axis=(0, 1)) - colour).max() < 15


def test_a_picture_is_sent_once(http, tile):
    for path in (
        f"/v1/tiles/{tile.tile_id}/picture",
        "/v1/slides/north/a/thumbnail",
        "/v1/slides/north/a/deepzoom_files/8/0_0.png",
    ):
        first = http.get(path)
        again = http.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


@pytest.mark.parametrize("slide_id", ["north/a", "north%2Fa", "%6eorth%2fa"])
def test_a_slash_of_an_id_may_stand_either_way(http, slide_id):
    assert http.get(f"/v1/slides/{slide_id}").json()["slide_id"] == "north/a"
    assert http.get(f"/v1/slides/{slide_id}/thumbnail").status_code == 200
    assert 'Height="192"' in http.get(f"/v1/slides/{slide_id}/deepzoom.dzi").text


@pytest.mark.parametrize(
    "slide_id",
    [
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fnorth%2fa",
        "%2fetc%2fpasswd",
        "north%2fa%00",
        "north/a.svs",
        "s3:%2f%2fbucket%2fa.svs",
        "%ff%fe",
        "x" * 5000,
    ],
)
@pytest.mark.parametrize("end", ["", "/thumbnail", "/deepzoom.dzi", "/deepzoom_files/0/0_0.png"])
def test_an_id_is_never_a_path(http, slide_id, end):
    response = http.get(f"/v1/slides/{slide_id}{end}")
    assert response.status_code == 404
    assert response.json()["cause"] == "slide-unknown"
    assert response.json()["detail"] == "the atlas holds no such slide or case"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/slides/north/a/deepzoom_files/9/0_0.png", 404),
        ("/v1/slides/north/a/deepzoom_files/8/1_0.png", 404),
        ("/v1/slides/north/a/deepzoom_files/8/0_0.gif", 422),
        ("/v1/slides/north/a/deepzoom_files/-1/0_0.png", 422),
        ("/v1/slides/north/a/deepzoom_files/99999999999/0_0.png", 422),
        ("/v1/tiles/zz/picture", 404),
        ("/v1/slides?limit=0", 422),
        ("/v1/slides?cursor=x", 422),
        ("/v1/slides?filter=x", 422),
        ("/v1/slides?filter=[]", 200),
        ('/v1/slides?filter=[{"field":"uri","operator":"=","value":"x"}]', 422),
    ],
)
def test_what_cannot_be_asked_is_refused(http, path, status):
    assert http.get(path).status_code == status


def test_a_viewer_finds_its_tiles_where_the_descriptor_says(http):
    descriptor = http.get("/v1/slides/north/a/deepzoom.dzi", params={"format": "png"})
    assert descriptor.headers["content-type"].startswith("application/xml")
    assert 'Format="png"' in descriptor.text
    place = str(descriptor.url.copy_with(query=None)).removesuffix(".dzi") + "_files/8/0_0.png"
    shown = pixels_of(http.get(place))
    assert np.abs(shown - BY_ID["north/a"].pixels()).mean() < 6


def test_the_client_lists_slides_page_by_page(client):
    first = client.slides(limit=3)
    rest = client.slides(limit=3, cursor=first.next)
    assert [slide.slide_id for slide in (*first.slides, *rest.slides)] == sorted(BY_ID)
    assert (first.total, rest.next) == (5, None)
    north = client.slides(conditions=[("site", "=", "north"), ("age", "in", [40, 41])])
    assert [slide.slide_id for slide in north.slides] == ["north/a", "north/b"]
    assert north.slides[0].metadata == {"site": "north", "age": 40}


def test_the_client_finds_by_everything(client, tile, tmp_path):
    picture = tmp_path / "pink.png"
    Image.new("RGB", (64, 64), COLOURS["pink"]).save(picture)
    by_picture = client.search_image(picture, k=3)
    hit = by_picture.hits[0]
    assert BY_ID[hit.slide_id].colour_at(hit.x, hit.y) == "pink"
    vectors = client.embed([picture]).images[0]
    assert client.search_vector(vectors, k=3).hits == by_picture.hits
    same = client.search_region(tile.slide_id, (tile.x, tile.y, tile.size_px, tile.size_px), k=1)
    itself = client.search_tile(tile.tile_id, k=1)
    assert same.hits[0].tile_id == itself.hits[0].tile_id == tile.tile_id
    assert client.tile(tile.tile_id).slide_id == tile.slide_id
    both = client.search_many([by_tile(tile.tile_id)] * 2, k=2, filter=[("site", "=", "south")])
    assert {hit.metadata["site"] for answer in both for hit in answer.hits} == {"south"}
    until(client.ready)
    assert client.slide("north/a").width_px == 128
    assert client.thumbnail("north/a").media_type == "image/jpeg"
    assert client.tile_picture(tile.tile_id, "png", 32).data.startswith(b"\x89PNG")


def test_the_client_reads_hits_of_every_level(client):
    slides = client.search_slide("north/a", exclude="slide", k=2, method="mean")
    assert slides.method == "mean"
    assert "north/a" not in {hit.slide_id for hit in slides.hits}
    (case,) = client.search_case("case 1", k=1, method="mean").hits
    assert (case.case_id, case.slides) == ("case 1", ("north/a", "north/b"))
    square = [(0, 0), (64, 0), (64, 64), (0, 64)]
    region = client.search_polygon("north/a", square, k=1).hits[0]
    assert len(region.polygon) == 4
    assert all(isinstance(tile, TileHit) for tile in region.tiles)


def test_the_client_raises_what_the_library_raises(client):
    with pytest.raises(SlideUnknown):
        client.slide("no such")
    with pytest.raises(TileNotFound):
        client.search_tile("0" * 32)
    with pytest.raises(FilterInvalid):
        client.slides(conditions=[("no such", "=", 1)])
    with pytest.raises(ServerRefused, match=r"body\.k"):
        client.search_tile("0" * 32, k=-1)


def test_the_asyncio_client_asks_many_at_once(server, tile):
    async def asked():
        async with AsyncClient(server) as client:
            many = (client.search_tile(tile.tile_id, k=1) for _ in range(20))
            return await asyncio.gather(*many)

    answers = asyncio.run(asked())
    assert {answer.hits[0].tile_id for answer in answers} == {tile.tile_id}


def test_metrics_count_what_was_asked(http, tile):
    def counted():
        values = Counter()  # of every method and status together
        for family in text_string_to_metric_families(http.get("/metrics").text):
            for sample in family.samples:
                labels = sample.labels
                values[sample.name, labels.get("route"), labels.get("cause")] += sample.value
        return values

    picture = ("microtome_requests_total", "/v1/tiles/{tile_id}/picture", None)
    refusal = ("microtome_refusals_total", None, "tile-not-found")
    version = ("microtome_atlas_version", None, None)
    before = counted()
    for tile_id in (tile.tile_id, tile.tile_id, "0" * 32):
        http.get(f"/v1/tiles/{tile_id}/picture")
    expected = {picture: before[picture] + 3, refusal: before[refusal] + 1, version: 1}

    def told():  # each replica tells of its own now and then
        after = counted()
        return all(after[name] >= count for name, count in expected.items())

    until(told)
    assert tile.tile_id not in http.get("/metrics").text
