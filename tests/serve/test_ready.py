"""Whether a server is ready costs nothing to ask, and tells nothing but that."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from microtome.errors import ModelMismatch, SettingError
from microtome_serve import problems, routes_atlas
from microtome_serve.kept import KEPT_S

SECRET = "a1b2c3d4e5f6"


class Graph:
    """A graph that is ready, or isn't for some reason."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self.search = SimpleNamespace(ready=SimpleNamespace(remote=self._ready))
        self._error = error

    async def _ready(self) -> None:
        self.asked += 1
        if self._error is not None:
            raise self._error


def client_of(graph: Graph) -> TestClient:
    app = FastAPI()
    app.include_router(routes_atlas.router)
    routes_atlas.install(app, graph)  # type: ignore[arg-type]
    problems.install(app)
    return TestClient(app)


def test_the_graph_is_asked_once_however_many_ask():
    graph = Graph()
    client, began = client_of(graph), time.monotonic()

    assert {client.get("/readyz").status_code for _ in range(20)} == {200}
    assert graph.asked <= 1 + (time.monotonic() - began) / KEPT_S


@pytest.mark.parametrize("error", [ModelMismatch(SECRET), SettingError(SECRET), KeyError(SECRET)])
def test_whatever_is_wrong_is_told_in_the_same_words(error):
    answer = client_of(Graph(error)).get("/readyz")

    assert (answer.status_code, answer.json()["cause"]) == (503, "unavailable")
    assert "Retry-After" in answer.headers
    assert SECRET not in answer.text
