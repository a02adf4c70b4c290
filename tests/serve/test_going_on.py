"""A server goes on: while its atlas grows, a model is rolled out, and processes are killed."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from microtome.atlas.atlas import Atlas
from microtome_serve.access import AuthSettings
from microtome_serve.settings import ServeSettings
from support.bare_embed import bare_embed
from support.coloured_atlas import Quilt
from support.served_atlas import MODEL, encoder_of, index_served
from support.serving import SMALL, replicas_of, served_beside

APP = "beside"
NEW = Quilt("north/e", (("tan", "tan"), ("tan", "pink")), "case 9")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("going-on")
    bare_embed(index_served(folder), encoder_of("tissue"))
    return folder


@pytest.fixture(scope="module")
def client(serve_port, folder) -> Iterator[httpx.Client]:
    settings = ServeSettings(
        str(folder / "atlas"),
        model=MODEL,
        candidate="tissue",
        auth=AuthSettings(open=True),
        ingress=SMALL,
        search=SMALL,
        embedder=SMALL,
        pictures=SMALL,
    )
    with (
        served_beside(settings, APP, serve_port) as url,
        httpx.Client(base_url=url, timeout=60.0) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def tile_id(folder) -> str:
    tiles = Atlas.open(str(folder / "atlas")).tiles
    return tiles.to_table(columns=["tile_id"], filter="x = 0 AND y = 0")["tile_id"][0].as_py()


def search(client: httpx.Client, tile_id: str) -> httpx.Response:
    return client.post("/v1/search", json={"queries": [{"kind": "tile", "tile_id": tile_id}]})


@contextmanager
def asking_all_the_while(client: httpx.Client, tile_id: str) -> Iterator[Counter]:
    """Two who ask one search after the other; what they were answered, by status."""
    statuses: Counter = Counter()
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            try:
                statuses[search(client, tile_id).status_code] += 1
            except httpx.HTTPError as error:
                statuses[type(error).__name__] += 1

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.2)


def test_new_slides_are_found_without_a_restart(client, folder, tile_id):
    before = client.get("/v1/atlas").json()

    with asking_all_the_while(client, tile_id) as statuses:
        index_served(folder, [NEW])
        until(lambda: client.get("/v1/atlas").json()["tiles"] == before["tiles"] + 4)

    assert set(statuses) == {200}
    assert client.get("/v1/atlas").json()["tiles_version"] > before["tiles_version"]


def test_a_candidate_is_compared_in_the_shadow_and_then_answers(client, tile_id):
    assert search(client, tile_id).json()["results"][0]["model_name"] == MODEL
    client.post("/v1/rollout", json={"shadow": 1.0})

    with asking_all_the_while(client, tile_id) as statuses:
        until(lambda: client.get("/v1/rollout").json()["compared"]["questions"] >= 5)
        seen = client.get("/v1/rollout").json()
        switched = client.post("/v1/rollout", json={"answers": "candidate", "shadow": 0})
        until(lambda: search(client, tile_id).json()["results"][0]["model_name"] == "tissue")

    assert set(statuses) == {200}
    assert 0 < seen["compared"]["overlap"] <= 1
    assert seen["compared"]["failed"] == 0
    assert switched.json()["answers"] == "candidate"
    assert client.get("/v1/atlas").json()["answers"] == switched.json()["candidate"]["model_id"]


@pytest.mark.parametrize("deployment", ["SearchReplica", "Ingress", "Rollout"])
def test_a_killed_process_costs_no_answer(client, tile_id, deployment):
    (killed,) = replicas_of(APP, deployment)

    with asking_all_the_while(client, tile_id) as statuses:
        until(lambda: statuses[200] > 5)
        killed.kill()
        until(lambda: [one.pid for one in replicas_of(APP, deployment)] not in ([], [killed.pid]))
        answered = statuses[200]
        until(lambda: statuses[200] > answered + 5)

    lost = {} if deployment != "Ingress" else {500, 503, "RemoteProtocolError", "ReadError"}
    assert set(statuses) - {200} <= set(lost), statuses
    assert sum(statuses[one] for one in lost) <= 2  # those that it was answering


def test_what_was_switched_outlives_the_process_that_knew_it(client, tile_id):
    until(lambda: client.get("/v1/rollout").json()["answers"] == "candidate")

    assert search(client, tile_id).json()["results"][0]["model_name"] == "tissue"


def test_an_atlas_that_goes_and_comes_back_is_answered_from_again(client, folder, tile_id):
    atlas, aside = folder / "atlas", folder / "aside"
    shutil.move(atlas, aside)
    until(lambda: client.get("/readyz").status_code == 503)
    gone = search(client, tile_id)
    shutil.move(aside, atlas)
    until(lambda: client.get("/readyz").status_code == 200)

    assert gone.status_code == 503
    assert gone.headers["Content-Type"] == "application/problem+json"
    assert "Retry-After" in gone.headers
    assert str(folder) not in gone.text
    assert search(client, tile_id).status_code == 200


def test_an_atlas_that_another_takes_the_place_of_is_the_other_one(client, folder, tile_id):
    shutil.rmtree(folder / "atlas")
    uri = index_served(folder, [NEW])
    bare_embed(uri, encoder_of("tissue"))
    until(lambda: client.get("/readyz").status_code == 200)
    until(lambda: client.get("/v1/atlas").json()["tiles"] == 4)

    assert search(client, tile_id).status_code == 404
