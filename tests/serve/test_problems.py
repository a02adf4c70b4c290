"""Every error as a problem document, and none that tells what isn't the client's to know."""

from __future__ import annotations

import inspect
import pickle

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError
from ray.serve.exceptions import BackPressureError, RequestCancelledError

from microtome import errors
from microtome.errors import MicrotomeError
from microtome_serve import problems
from microtome_serve.problems import responses
from microtome_serve.refusals import problem_of

SECRET = "/srv/archive/Smith^John"
OURS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, MicrotomeError)
]

OURS_ALONE = [kind for kind in OURS if problem_of(kind("x")).status in {500, 502, 503}]


class Asked(BaseModel):
    patient: int


def client_of(error: Exception) -> TestClient:
    app = FastAPI()

    @app.get("/it", responses=responses(404))
    async def it() -> None:
        raise error

    @app.post("/asked")
    async def asked(body: Asked) -> int:
        return body.patient

    problems.install(app)
    return TestClient(app)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_of_ours_is_told(kind):
    answer = client_of(kind("what is wrong", remedy="what to do")).get("/it")
    document = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert document["status"] == answer.status_code >= 400
    assert document["cause"] == kind.cause
    assert document["type"] == f"urn:microtome:problem:{kind.cause}"
    assert document["title"]
    assert document["detail"]


@pytest.mark.parametrize("kind", OURS_ALONE, ids=lambda kind: kind.__name__)
def test_what_is_wrong_on_this_side_is_told_without_its_places(kind, caplog):
    answer = client_of(kind(f"{SECRET} is gone", remedy=f"look at {SECRET}")).get("/it")
    assert SECRET not in answer.text
    assert SECRET in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        (errors.TileNotFound("x"), 404, "tile-not-found"),
        (errors.SlideUnknown("x"), 404, "slide-unknown"),
        (errors.FilterInvalid("x"), 422, "filter-invalid"),
        (errors.QueryUnreadable("x"), 422, "query-unreadable"),
        (errors.TokenRefused("x"), 401, "token-refused"),
        (errors.NotAllowed("x"), 403, "not-allowed"),
        (errors.RateExceeded("x"), 429, "rate-exceeded"),
        (errors.AtlasNotFound("x"), 503, "atlas-not-found"),
        (errors.AtlasDamaged("x"), 503, "atlas-damaged"),
        (errors.ModelMismatch("x"), 422, "model-mismatch"),
        (errors.TileReadFailed("x"), 502, "read-failed"),
        (BackPressureError(9, 9), 503, "overloaded"),
        (BackPressureError(9, 9, 429, 7.0), 429, "overloaded"),
        (GetTimeoutError("x"), 504, "deadline-passed"),
        (TimeoutError(), 504, "deadline-passed"),
        (ActorDiedError(), 503, "unavailable"),
        (RequestCancelledError("x"), 503, "unavailable"),
        (HTTPException(404, "no"), 404, "not-found"),
        (ValueError(SECRET), 500, "unexpected"),
        (KeyError(SECRET), 500, "unexpected"),
    ],
)
def test_statuses(error, status, cause):
    answer = client_of(error).get("/it")
    assert (answer.status_code, answer.json()["cause"]) == (status, cause)
    assert SECRET not in answer.text
    retry = answer.headers.get("Retry-After")
    assert (retry is not None) == (status in {429, 503, 504})


def test_when_to_come_again_is_in_whole_seconds():
    wait = problem_of(errors.RateExceeded("x", retry_after_s=1.2)).headers["Retry-After"]
    assert wait == "2"
    assert problem_of(BackPressureError(9, 9, 429, 7.0)).headers["Retry-After"] == "7"


def test_an_error_that_crossed_ray_is_told_as_if_it_had_not():
    error = errors.FilterInvalid("the filter on 'x'", remedy="There is y.")
    crossed = pickle.loads(pickle.dumps(error))
    for one in (crossed, RayTaskError("f", SECRET, crossed).as_instanceof_cause()):
        problem = problem_of(one)
        assert (problem.detail, problem.remedy) == ("the filter on 'x'", "There is y.")
    wait = pickle.loads(pickle.dumps(errors.RateExceeded("x", retry_after_s=9.0)))
    assert problem_of(wait).headers["Retry-After"] == "9"


def test_the_unknown_has_one_text_whatever_was_asked():
    one, two = (client_of(errors.SlideUnknown(f"no slide {n}")).get("/it") for n in (1, 2))
    assert one.content == two.content


def test_a_wrong_body_is_told_by_its_fields_and_not_by_its_values():
    answer = client_of(ValueError()).post("/asked", json={"patient": "Smith"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.patient"
    assert "Smith" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/it", 405)]
)
def test_what_no_route_answers_is_a_problem_document_too(method, path, status):
    answer = client_of(ValueError()).request(method, path)
    assert answer.status_code == answer.json()["status"] == status


def test_the_openapi_document_describes_it():
    document = client_of(ValueError()).get("/openapi.json").json()
    described = document["paths"]["/it"]["get"]["responses"]["404"]["content"]
    assert described["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    required = document["components"]["schemas"]["Problem"]["required"]
    assert set(required) <= set(client_of(ValueError()).get("/it").json())
