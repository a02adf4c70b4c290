from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome import errors
from microtome.client.trying import Patience, Tries, told
from microtome.errors import (
    MicrotomeError,
    ServerBusy,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
    SettingError,
    TileNotFound,
)

USUAL = Patience()
REQUEST = httpx.Request("GET", "http://server/v1/atlas")


def reply(status, document=None, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if document is None:
        return httpx.Response(status, headers=named, text="Bad", request=REQUEST)
    kind = {"content-type": "application/problem+json"}
    return httpx.Response(status, headers=kind | named, json=document, request=REQUEST)


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def tries_of(patience=USUAL, chance=0.5, clock=None):
    return Tries("http://server", patience, clock or Clock(), lambda: chance)


def test_a_good_answer_ends_the_tries():
    assert tries_of().after(reply(200)) is None


@pytest.mark.parametrize(
    ("chance", "waits"),
    [(0.0, [0, 0, 0, 0]), (0.5, [0.1, 0.2, 0.4, 0.5]), (0.999, [0.1998, 0.3996, 0.7992, 0.999])],
)
def test_waits_are_random_parts_of_what_doubles_up_to_a_limit(chance, waits):
    tries = tries_of(Patience(first_s=0.2, most_s=1.0), chance)
    assert [tries.after(reply(503)) for _ in range(4)] == pytest.approx(waits)


@given(chance=st.floats(0, 1, exclude_max=True), asked=st.integers(0, 20))
def test_never_sooner_than_the_server_asks(chance, asked):
    wait_s = tries_of(chance=chance).after(reply(429, Retry_After=str(asked)))
    assert asked <= wait_s <= asked + 0.2


@pytest.mark.parametrize("said", ["", "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "1e99", "²"])
def test_what_it_says_otherwise_counts_as_nothing(said):
    assert tries_of().after(httpx.Response(503, headers={"retry-after": said.encode()})) == 0.1


def test_the_last_try_tells_why():
    tries = tries_of(Patience(tries=3))
    busy = reply(503, {"cause": "overloaded", "detail": "too much", "remedy": "Wait."})
    tries.after(busy)
    tries.after(busy)
    with pytest.raises(ServerBusy, match=r"too much. Wait."):
        tries.after(busy)


def test_nobody_waits_past_the_deadline():
    clock = Clock()
    tries = tries_of(Patience(deadline_s=10.0), clock=clock)
    assert tries.after(reply(429, Retry_After="6")) > 6
    clock.now_s += 7
    assert tries.left_s == pytest.approx(3)
    with pytest.raises(ServerBusy):
        tries.after(reply(429, Retry_After="6"))


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
    ],
)
def test_a_lost_connection_is_tried_again_and_told_in_the_end(error):
    tries = tries_of(Patience(tries=2))
    assert tries.after(error) == 0.1
    with pytest.raises(ServerUnreachable, match="http://server can't be reached"):
        tries.after(error)


@pytest.mark.parametrize("error", [httpx.ReadTimeout("slow"), httpx.WriteTimeout("slow")])
def test_a_question_that_takes_too_long_is_not_asked_again(error):
    with pytest.raises(ServerUnreachable, match="in time"):
        tries_of().after(error)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 422, 500, 502, 504])
def test_what_will_not_pass_is_told_at_once(status):
    with pytest.raises(MicrotomeError):
        tries_of().after(reply(status))


@pytest.mark.parametrize(
    ("answered", "kind"),
    [
        (reply(404, {"cause": "tile-not-found", "detail": "no tile"}), TileNotFound),
        (reply(422, {"cause": "setting", "detail": "k"}), SettingError),
        (reply(422, {"cause": "request-invalid", "detail": "k"}), ServerRefused),
        (reply(500, {"cause": "error", "detail": "failed"}), ServerFailed),
        (reply(503, {"cause": "atlas", "detail": "gone"}), errors.AtlasError),
        (reply(429, {"cause": "rate-exceeded", "detail": "slow"}), errors.RateExceeded),
        (reply(502), ServerFailed),
        (reply(503), ServerBusy),
        (reply(418), ServerRefused),
    ],
)
def test_an_error_has_the_type_that_the_library_raises(answered, kind):
    assert type(told(answered)) is kind


def test_what_is_wrong_in_a_request_is_told_by_field():
    wrong = [{"field": "body.k", "message": "too much"}]
    error = told(reply(422, {"cause": "request-invalid", "detail": "no", "errors": wrong}))
    assert str(error) == "no. body.k: too much"


@pytest.mark.parametrize("text", ["[]", "null", "{", "7"])
def test_a_problem_that_is_none_is_told_by_its_status(text):
    kind = {"content-type": "application/problem+json"}
    error = told(httpx.Response(500, headers=kind, text=text, request=REQUEST))
    assert str(error) == "the server answered 500 Internal Server Error"


@pytest.mark.parametrize(
    "values", [{"deadline_s": 0}, {"tries": 0}, {"first_s": 0}, {"first_s": 2, "most_s": 1}]
)
def test_nobody_is_patient_like_this(values):
    with pytest.raises(SettingError):
        Patience(**values)


@pytest.mark.parametrize("errors", ["wrong", [1], [{"loc": "k"}], {"field": "k"}, 7, [None]])
def test_a_foreign_server_s_errors_are_none_of_ours(errors):
    document = {"detail": "it is so", "remedy": "Do so.", "errors": errors}

    assert told(reply(422, document)).remedy == "Do so."
