"""Who may ask: one text for every wrong token, and nobody gets in when in doubt."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from microtome.errors import AtlasNotFound, SettingError
from microtome_serve import access, problems
from microtome_serve.access import CHECK_S, AuthSettings, Gate, Operator, Reader
from microtome_serve.filters import Condition
from microtome_serve.kept import KEPT_S
from microtome_serve.limits import Limits
from microtome_serve.oidc import OidcSettings
from microtome_serve.tokens import TokenBook, Wanted
from support.issuer import AUDIENCE, NAME, running_issuer

ONE_AN_HOUR = 1 / 3600
COLUMNS = pa.schema([("slide_id", pa.string()), ("site", pa.string()), ("age", pa.int64())])


async def columns() -> pa.Schema:
    return COLUMNS


def client_of(settings: AuthSettings, limits: Limits | None = None, columns=columns) -> TestClient:
    """Two routes behind a gate, asked from this machine."""
    app = FastAPI()

    @app.get("/read")
    async def read(asking: Reader) -> dict[str, str | None]:
        return {"name": asking.name, "role": asking.role, "rows": asking.rows}

    @app.get("/operate")
    async def operate(asking: Operator) -> str:
        return asking.name

    access.install(app, Gate(settings, limits or Limits(), columns))
    problems.install(app)
    return TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 5000))


@pytest.fixture
def book(tmp_path):
    return TokenBook(str(tmp_path / "tokens.json"))


@pytest.fixture
def settings(tmp_path):
    return AuthSettings(tokens=str(tmp_path / "tokens.json"))


def bearing(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_good_token_lets_its_bearer_in(book, settings):
    _, secret = book.make(Wanted("viewer"))
    answer = client_of(settings).get("/read", headers=bearing(secret))
    assert answer.json() == {"name": "viewer", "role": "reader", "rows": None}


def test_every_wrong_token_gets_the_same_answer(book, settings):
    _, good = book.make(Wanted("viewer"))
    revoked, gone = book.make(Wanted("revoked"))
    book.revoke(revoked.id)
    _, expired = book.make(Wanted("expired", expires_days=1e-9))
    time.sleep(1)  # moments are kept in whole seconds
    client = client_of(settings)
    wrong = [
        {},
        bearing(gone),
        bearing(expired),
        bearing("mt_" + "x" * 43),
        bearing(good[:-1]),
        bearing(revoked.hash),
        bearing(""),
        {"Authorization": good},
        {"Authorization": f"Basic {good}"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Cookie": f"token={good}"},
    ]
    answers = [client.get("/read", headers=headers) for headers in wrong]
    answers.append(client.get(f"/read?token={good}&access_token={good}"))
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {
        'Bearer realm="microtome"'
    }
    assert client.get("/read", headers=bearing(good)).status_code == 200


def test_revoking_works_on_a_running_server(book, settings, monkeypatch):
    monkeypatch.setattr(access, "CHECK_S", 0.0)
    made, secret = book.make(Wanted("viewer"))
    client = client_of(settings)
    assert client.get("/read", headers=bearing(secret)).status_code == 200
    book.revoke(made.id)
    assert client.get("/read", headers=bearing(secret)).status_code == 401


def test_the_file_is_looked_at_once_a_second_at_most(book, settings, monkeypatch):
    _, secret = book.make(Wanted("viewer"))
    asked: list[int] = []
    stamp = type(book._store).stamp
    monkeypatch.setattr(type(book._store), "stamp", lambda self: asked.append(1) or stamp(self))
    client, began = client_of(settings), time.monotonic()
    for _ in range(20):
        client.get("/read", headers=bearing(secret))
    assert len(asked) <= 2 * (1 + (time.monotonic() - began) / CHECK_S)  # to look, and to read


@pytest.mark.parametrize("damage", [None, "{", '{"format": 1}'])
def test_without_the_token_file_nobody_gets_in(book, settings, tmp_path, damage, caplog):
    _, secret = book.make(Wanted("viewer"))
    file = tmp_path / "tokens.json"
    file.unlink() if damage is None else file.write_text(damage)
    for headers in ({}, bearing(secret)):
        answer = client_of(settings).get("/read", headers=headers)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert "tokens.json" not in answer.text
    assert "tokens.json" in caplog.text


def test_an_operator_may_what_a_reader_may_and_not_the_other_way(book, settings):
    _, operator = book.make(Wanted("grafana", "operator"))
    _, reader = book.make(Wanted("viewer"))
    client = client_of(settings)
    assert client.get("/read", headers=bearing(operator)).status_code == 200
    assert client.get("/operate", headers=bearing(operator)).json() == "grafana"
    refused = client.get("/operate", headers=bearing(reader))
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    assert client.get("/operate").status_code == 401


@pytest.mark.parametrize(
    ("rows", "sql"),
    [
        ([Condition("site", "=", "north")], "(`site` = 'north' AND `site` IS NOT NULL)"),
        ([Condition("age", ">", "60")], "(`age` > 60 AND `age` IS NOT NULL)"),
        ([Condition("site", "=", "' OR '1'='1")], "' OR ''1''=''1"),
    ],
)
def test_rows_are_told_in_the_atlas_s_columns(book, settings, rows, sql):
    _, secret = book.make(Wanted("north", rows=tuple(rows)))
    assert sql in client_of(settings).get("/read", headers=bearing(secret)).json()["rows"]


@pytest.mark.parametrize(
    "rows", [Condition("ward", "=", "7"), Condition("age", "=", "old"), Condition("x", ">", "1")]
)
def test_rows_that_the_atlas_cannot_tell_let_nobody_in(book, settings, rows):
    _, secret = book.make(Wanted("north", rows=(rows,)))
    answer = client_of(settings).get("/read", headers=bearing(secret))
    assert answer.status_code == 503
    assert rows.field not in answer.json()["detail"]


def test_limited_rows_wait_for_the_atlas_and_unlimited_do_not(book, settings):
    async def gone() -> pa.Schema:
        raise AtlasNotFound("no atlas at /secret/place")

    _, limited = book.make(Wanted("north", rows=(Condition("site", "=", "north"),)))
    _, free = book.make(Wanted("all"))
    client = client_of(settings, columns=gone)
    assert client.get("/read", headers=bearing(free)).status_code == 200
    answer = client.get("/read", headers=bearing(limited))
    assert answer.status_code == 503
    assert "secret" not in answer.text


def test_the_atlas_is_asked_for_its_columns_once_a_second_at_most(book, settings):
    asked = []

    async def counted() -> pa.Schema:
        asked.append(1)
        return COLUMNS

    _, limited = book.make(Wanted("north", rows=(Condition("site", "=", "north"),)))
    client, began = client_of(settings, columns=counted), time.monotonic()
    for _ in range(20):
        assert client.get("/read", headers=bearing(limited)).status_code == 200
    assert len(asked) <= 1 + (time.monotonic() - began) / KEPT_S


def test_each_token_has_its_own_rate(book, settings):
    _, slow = book.make(Wanted("slow", rate_per_s=ONE_AN_HOUR))
    _, free = book.make(Wanted("free"))
    client = client_of(settings)
    statuses = [client.get("/read", headers=bearing(slow)).status_code for _ in range(3)]
    assert statuses == [200, 429, 429]
    assert int(client.get("/read", headers=bearing(slow)).headers["Retry-After"]) > 3000
    assert {client.get("/read", headers=bearing(free)).status_code for _ in range(9)} == {200}


def test_a_wrong_token_takes_nothing_of_a_right_one_s_rate(book, settings):
    _, secret = book.make(Wanted("slow", rate_per_s=ONE_AN_HOUR))
    client = client_of(settings)
    for _ in range(5):
        assert client.get("/read", headers=bearing(secret + "x")).status_code == 401
    assert client.get("/read", headers=bearing(secret)).status_code == 200


def test_an_issuer_s_jwt_and_a_token_of_ours_side_by_side(book, tmp_path):
    _, secret = book.make(Wanted("viewer"))
    with running_issuer() as issuer:
        oidc = OidcSettings(NAME, AUDIENCE, issuer.url, rows_claim="site", rows_field="site")
        client = client_of(AuthSettings(tokens=str(tmp_path / "tokens.json"), oidc=oidc))
        by_jwt = client.get("/read", headers=bearing(issuer.token({"site": "north"})))
        assert by_jwt.json()["name"] == "oidc:anna"
        assert "`site` IN ('north')" in by_jwt.json()["rows"]
        assert client.get("/read", headers=bearing(secret)).json()["name"] == "viewer"
        refused = client.get("/read", headers=bearing(issuer.token()))  # no site is said
        assert refused.content == client.get("/read").content


def test_unless_something_is_said_nobody_may_ask():
    assert client_of(AuthSettings()).get("/read", headers=bearing("x")).status_code == 401
    with pytest.raises(SettingError, match="nobody could ask"):
        AuthSettings().check("127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_an_open_server_listens_to_its_own_machine(host):
    AuthSettings(open=True).check(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org", "", "127.0.0.1.evil"])
def test_an_open_server_never_listens_to_others(host):
    with pytest.raises(SettingError, match="without tokens"):
        AuthSettings(open=True).check(host)
    AuthSettings(tokens="tokens.json").check(host)


def test_open_and_tokens_are_one_or_the_other():
    with pytest.raises(SettingError):
        AuthSettings(open=True, tokens="tokens.json")


@pytest.mark.parametrize(
    ("client", "url", "status"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000", 200),
        ("::1", "http://[::1]:8000", 200),
        ("127.0.0.1", "http://localhost", 200),
        ("10.0.0.7", "http://127.0.0.1:8000", 403),
        ("127.0.0.1", "http://evil.example:8000", 403),  # a page's own name, pointed here
        ("testclient", "http://127.0.0.1", 403),
    ],
)
def test_an_open_server_answers_its_own_machine_alone(client, url, status):
    app = client_of(AuthSettings(open=True)).app
    asked = TestClient(app, base_url=url, client=(client, 5000)).get("/operate")
    assert asked.status_code == status


def test_a_body_without_a_token_is_not_read(settings, book):
    _, secret = book.make(Wanted("viewer"))
    app = client_of(settings).app

    @app.post("/taken")
    async def take(asking: Reader, body: dict) -> str:
        return asking.name

    client = TestClient(app)
    assert client.post("/taken", content=b"no json").status_code == 401  # nobody looked
    assert client.post("/taken", content=b"no json", headers=bearing(secret)).status_code == 422


def test_a_request_with_a_body_counts_once(settings, book):
    _, secret = book.make(Wanted("slow", rate_per_s=ONE_AN_HOUR))
    app = client_of(settings).app

    @app.post("/taken")
    async def take(asking: Reader, body: dict) -> str:
        return asking.name

    client = TestClient(app)
    statuses = [
        client.post("/taken", json={}, headers=bearing(secret)).status_code for _ in range(2)
    ]
    assert statuses == [200, 429]
