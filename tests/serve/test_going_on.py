"""A server goes on: under too much load, while its atlas grows, and when processes are killed."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from microtome.atlas.atlas import Atlas
from microtome_serve.access import AuthSettings
from microtome_serve.limits import Limits
from microtome_serve.settings import Scale, ServeSettings
from support.bare_embed import bare_embed
from support.coloured_atlas import Quilt
from support.served_atlas import MODEL, encoder_of, index_served
from support.serving import SMALL, replicas_of, served_beside
from support.waiting import until

pytestmark = [pytest.mark.ray]

APP = "beside"
REGION = {"kind": "region", "slide_id": "north/a", "x": 0, "y": 0, "width_px": 64, "height_px": 64}
SLOW = {"queries": [REGION], "level": "region"}
"""Seconds of work."""
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
        limits=Limits(deadline_s=240.0),  # however long a lost process takes to come again
        search=Scale(cpus=0, max_ongoing=2, max_queued=4),
        embedder=SMALL,
        pictures=SMALL,
    )
    with (
        served_beside(settings, APP, serve_port) as url,
        httpx.Client(base_url=url, timeout=250.0) as client,
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
    """Two who ask one search after the other; what they were answered: 200, or the refusals."""
    answers: Counter = Counter()
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            try:
                answer = search(client, tile_id)
                answers[200 if answer.is_success else answer.text] += 1
            except httpx.HTTPError as error:
                answers[type(error).__name__] += 1

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def test_what_is_too_much_is_refused_at_once_with_when_to_come_again(client):
    def ask(_: int) -> tuple[httpx.Response, float]:
        started = time.monotonic()
        return client.post("/v1/search", json=SLOW), time.monotonic() - started

    with ThreadPoolExecutor(12) as twelve:
        asked = twelve.map(ask, range(12))
        health = client.get("/healthz")
        answers = list(asked)
    answered = [took_s for answer, took_s in answers if answer.status_code == 200]
    refused = [(answer, took_s) for answer, took_s in answers if answer.status_code == 503]

    assert health.status_code == 200
    assert {answer.status_code for answer, _ in answers} == {200, 503}
    for answer, _ in refused:
        assert answer.json()["cause"] == "overloaded"
        assert int(answer.headers["Retry-After"]) >= 1
    assert min(took_s for _, took_s in refused) < min(answered)


def test_who_does_not_wait_for_the_answer_frees_the_place(client):
    def leaves(_: int) -> bool:
        try:
            client.post("/v1/search", json=SLOW | {"queries": [REGION] * 32}, timeout=1.0)
        except httpx.TimeoutException:
            return True
        return False

    def is_let_in() -> bool:
        return client.post("/v1/search", json=SLOW).status_code == 200

    with ThreadPoolExecutor(4) as four:  # who take all there is to have; some are refused at once
        assert any(four.map(leaves, range(4)))

    began = time.monotonic()
    until(is_let_in)
    after = time.monotonic()
    assert is_let_in()
    assert after - began < 8 * (time.monotonic() - after)  # 32, two at once, take 16 times as long


def test_new_slides_are_found_without_a_restart(client, folder, tile_id):
    before = client.get("/v1/atlas").json()

    with asking_all_the_while(client, tile_id) as answers:
        index_served(folder, [NEW])
        until(lambda: client.get("/v1/atlas").json()["tiles"] == before["tiles"] + 4)

    assert set(answers) == {200}
    assert client.get("/v1/atlas").json()["tiles_version"] > before["tiles_version"]


def test_a_candidate_is_compared_in_the_shadow_and_then_answers(client, tile_id):
    assert search(client, tile_id).json()["results"][0]["model_name"] == MODEL
    client.post("/v1/rollout", json={"shadow": 1.0})

    with asking_all_the_while(client, tile_id) as answers:
        until(lambda: client.get("/v1/rollout").json()["compared"]["questions"] >= 5)
        seen = client.get("/v1/rollout").json()
        switched = client.post("/v1/rollout", json={"answers": "candidate", "shadow": 0})
        until(lambda: search(client, tile_id).json()["results"][0]["model_name"] == "tissue")

    assert set(answers) == {200}
    assert 0 < seen["compared"]["overlap"] <= 1
    assert seen["compared"]["failed"] == 0
    assert switched.json()["answers"] == "candidate"
    assert client.get("/v1/atlas").json()["answers"] == switched.json()["candidate"]["model_id"]


@pytest.mark.parametrize("deployment", ["SearchReplica", "Ingress", "Rollout"])
def test_a_killed_process_costs_no_answer(client, tile_id, deployment):
    (killed,) = replicas_of(APP, deployment)

    with asking_all_the_while(client, tile_id) as answers:
        until(lambda: answers[200] > 5)
        killed.kill()
        until(lambda: [one.pid for one in replicas_of(APP, deployment)] not in ([], [killed.pid]))
        answered = answers[200]
        until(lambda: answers[200] > answered + 5)

    lost = answers.total() - answers[200]
    assert lost <= (2 if deployment == "Ingress" else 0), answers  # those that it was answering


def test_what_was_switched_outlives_the_process_that_knew_it(client, tile_id):
    until(lambda: client.get("/v1/rollout").json()["answers"] == "candidate")

    assert search(client, tile_id).json()["results"][0]["model_name"] == "tissue"


def test_an_atlas_that_goes_and_comes_back_is_answered_from_again(client, folder, tile_id):
    atlas, aside = folder / "atlas", folder / "aside"
    shutil.move(atlas, aside)
    until(lambda: search(client, tile_id).status_code == 503)
    gone = search(client, tile_id)
    until(lambda: client.get("/readyz").status_code == 503)
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
    until(lambda: client.get("/v1/atlas").json().get("tiles") == 4)

    assert search(client, tile_id).status_code == 404
