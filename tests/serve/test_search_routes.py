"""What the server answers to a search: the same as the library, over HTTP."""

from __future__ import annotations

import numpy as np

from support.served_atlas import MODEL, encoder_of


def test_a_server_that_runs_says_so(http):
    assert http.get("/healthz").json() == {"status": "ok"}


def test_a_vector_finds_the_tiles_that_it_is_nearest_to(http):
    pink = np.full((1, 64, 64, 3), (230, 140, 190), np.uint8)
    vector = encoder_of(MODEL).encode(pink)[0]

    answer = http.post("/v1/search", json={"vector": vector.tolist(), "k": 3})

    assert answer.status_code == 200, answer.text
    assert len(answer.json()["hits"]) == 3
