"""The audit line: who, what kind of thing, what became of it; nothing of a patient."""

from __future__ import annotations

import json
import logging

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from microtome.errors import SlideUnknown, TokenRefused
from microtome_serve import audit, problems
from microtome_serve.access import Access
from microtome_serve.door import Door, Entered


def app_of(to: str = "", door: Door | None = None) -> FastAPI:
    app = FastAPI()

    async def asking(request) -> None:
        request.state.access = Access("viewer", "reader", "site = 'north'")

    @app.post("/v1/slides/{slide_id:path}")
    async def slide(slide_id: str, body: dict) -> dict:
        return body

    @app.get("/v1/refused/{slide_id}")
    async def refused(slide_id: str) -> None:
        raise SlideUnknown("x") if slide_id == "a" else TokenRefused("x")

    @app.get("/v1/broken")
    async def broken() -> None:
        raise ValueError("x")

    @app.middleware("http")
    async def known(request, call_next):
        await asking(request)
        return await call_next(request)

    problems.install(app)
    app.add_middleware(Entered, door=door or Door())
    audit.install(app, to)
    return app


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "microtome.audit")
    return lambda: [json.loads(one.message) for one in caplog.records if one.name.endswith("audit")]


def test_a_line_says_who_asked_what_kind_of_thing(lines):
    answer = TestClient(app_of()).post("/v1/slides/north/a?x=1", json={"k": "value"})
    (line,) = lines()
    assert line["token"] == "viewer"
    assert (line["method"], line["route"]) == ("POST", "/v1/slides/{slide_id:path}")
    assert line["status"] == 200
    assert line["rows_limited"] is True
    assert line["bytes_in"] == len(b'{"k":"value"}')
    assert line["bytes_out"] == len(answer.content)
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert 0 < line["ms"] < 10_000


def test_nothing_of_a_patient_is_written(lines):
    client = TestClient(app_of())
    client.post("/v1/slides/Smith^John?q=Smith", json={"where": "Smith"})
    client.get("/v1/refused/Smith")
    client.get("/nowhere/Smith", headers={"User-Agent": "Smith"})
    told = lines()
    assert len(told) == 3
    assert "Smith" not in json.dumps(told)
    assert [line["status"] for line in told] == [200, 401, 404]
    assert told[2]["route"] is None


def test_a_failure_has_its_line_and_its_request_s_id_in_the_log(lines, caplog):
    answer = TestClient(app_of()).get("/v1/broken")
    assert lines()[0]["status"] == answer.status_code == 500
    assert f"request {answer.headers['X-Request-ID']}: unexpected" in caplog.text


@pytest.mark.parametrize(
    ("said", "taken"),
    [("abc-1", True), ("a" * 65, False), ('x", "status": 200', False), ("", False)],
)
def test_an_id_from_outside_is_taken_if_it_cannot_confuse_the_log(lines, said, taken):
    TestClient(app_of()).get("/nowhere", headers={"X-Request-ID": said})
    assert (lines()[0]["request_id"] == said) is taken
    assert lines()[0]["request_id"]


def test_lines_go_to_a_file_that_may_be_rotated(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "LOOK_EVERY_S", 0.0)
    file, log = tmp_path / "audit.jsonl", logging.getLogger("microtome.audit")
    try:
        client = TestClient(app_of(str(file)))
        client.get("/nowhere")
        file.rename(tmp_path / "audit.1")
        client.get("/nowhere")
    finally:
        log.handlers.clear()
        log.propagate = True
    for one in (tmp_path / "audit.1", file):
        (line,) = one.read_text().splitlines()
        assert json.loads(line)["status"] == 404


def test_who_comes_too_late_has_a_line_too(lines):
    door = Door()
    door.is_shut = True
    answer = TestClient(app_of(door=door)).get("/v1/broken")
    (line,) = lines()
    assert (answer.status_code, line["status"]) == (503, 503)
    assert line["request_id"] == answer.headers["X-Request-ID"]
