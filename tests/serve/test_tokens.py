"""Tokens: made once, kept as hashes, revoked at once, and nobody gets in when in doubt."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from microtome.errors import AccessUnavailable, FilterInvalid, SettingError
from microtome_serve.commands import app
from microtome_serve.filters import Condition, parse_condition, typed
from microtome_serve.tokens import TokenBook, Wanted, found, hashed

NOW = datetime.now(UTC)


@pytest.fixture
def book(tmp_path):
    return TokenBook(str(tmp_path / "tokens.json"))


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["token", *map(str, words)])


def test_a_token_is_found_by_itself_and_by_nothing_else(book):
    token, secret = book.make(Wanted("viewer"))
    _, other = book.make(Wanted("other"))
    tokens = book.read()
    assert found(tokens, secret, NOW) == token
    for wrong in (secret[:-1], secret + "a", secret.lower(), token.hash, token.id, "", "mt_", "é"):
        assert found(tokens, wrong, NOW) is None
    assert found(tokens, other, NOW).name == "other"


def test_the_file_holds_no_token_and_only_its_owner_may_read_it(book, tmp_path):
    _, secret = book.make(Wanted("viewer"))
    assert [one.name for one in tmp_path.iterdir()] == ["tokens.json"]
    file = tmp_path / "tokens.json"
    assert secret.removeprefix("mt_") not in file.read_text()
    assert hashed(secret) in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_tokens_have_256_random_bits(book):
    _, one = book.make(Wanted("one"))
    _, two = book.make(Wanted("two"))
    assert len(one) == len("mt_") + 43
    assert one != two


def test_what_was_asked_for_is_kept(book):
    rows = (Condition("site", "in", ["north", "south"]), Condition("age", ">=", 60))
    made, _ = book.make(Wanted("viewer", "operator", rows, 2.5, 30))
    assert book.read() == (made,)
    assert (made.role, made.rows, made.rate_per_s) == ("operator", rows, 2.5)
    lasts = datetime.fromisoformat(made.expires) - datetime.fromisoformat(made.created)
    assert lasts == timedelta(days=30)


def test_an_expired_token_is_not_found(book):
    made, secret = book.make(Wanted("viewer", expires_days=1))
    end = datetime.fromisoformat(made.expires)
    assert found(book.read(), secret, end - timedelta(seconds=1))
    assert found(book.read(), secret, end) is None


def test_a_revoked_token_is_not_found_by_who_had_read_the_file_before(book, tmp_path):
    made, secret = book.make(Wanted("viewer"))
    server = TokenBook(str(tmp_path / "tokens.json"))
    assert found(server.read(), secret, NOW) == made
    book.revoke(made.id)
    assert found(server.read(), secret, NOW) is None


def test_revoking_again_changes_nothing(book):
    made, _ = book.make(Wanted("viewer"))
    assert book.revoke(made.id) == book.revoke(made.id)
    with pytest.raises(SettingError, match="no token 'ffff'"):
        book.revoke("ffff")


def test_a_name_is_taken_until_its_token_is_revoked(book):
    made, _ = book.make(Wanted("viewer"))
    with pytest.raises(SettingError, match="viewer"):
        book.make(Wanted("viewer"))
    book.revoke(made.id)
    assert book.make(Wanted("viewer"))[0].id != made.id


def test_changes_at_once_all_count(tmp_path):
    uri = str(tmp_path / "tokens.json")
    making = [
        threading.Thread(target=lambda n=n: TokenBook(uri).make(Wanted(f"token {n}")))
        for n in range(8)
    ]
    for one in making:
        one.start()
    for one in making:
        one.join()
    assert sorted(one.name for one in TokenBook(uri).read()) == [f"token {n}" for n in range(8)]


def test_tokens_in_a_bucket(s3):
    uri = f"{s3.bucket()}/tokens.json"
    server = TokenBook(uri)
    with pytest.raises(AccessUnavailable, match="isn't there"):
        server.read()
    made, secret = TokenBook(uri).make(Wanted("viewer"))
    assert found(server.read(), secret, NOW) == made
    TokenBook(uri).revoke(made.id)
    assert found(server.read(), secret, NOW) is None


def test_a_change_in_a_bucket_does_not_undo_another_that_came_between(s3):
    uri = f"{s3.bucket()}/tokens.json"
    book = TokenBook(uri)
    first, secret = book.make(Wanted("first"))
    store, interfered = book._store, []

    def change_after_another(change):
        def late(data):
            if not interfered:
                interfered.append(TokenBook(uri).revoke(first.id))
            return change(data)

        type(store).change(store, late)

    book._store = type("Late", (), {"change": staticmethod(change_after_another)})()
    book.make(Wanted("second"))
    after = TokenBook(uri).read()
    assert [one.name for one in after] == ["first", "second"]
    assert found(after, secret, NOW) is None


GOOD = {
    "id": "1",
    "name": "viewer",
    "hash": "0" * 64,
    "role": "reader",
    "rows": [],
    "rate_per_s": None,
    "created": "2026-01-01T00:00:00+00:00",
    "expires": None,
    "revoked": None,
}


def test_the_document_that_the_next_test_damages_is_good(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"format": 1, "tokens": [GOOD]}))
    assert len(TokenBook(str(tmp_path / "t.json")).read()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"tokens": []}',
        b'{"format": 2, "tokens": []}',
        b'{"format": 1, "tokens": {}, "x": 1}'[:-12],
        *(
            json.dumps({"format": 1, "tokens": [GOOD | wrong]}).encode()
            for wrong in (
                {"role": "admin"},
                {"role": ["reader"]},
                {"hash": "00"},
                {"hash": None},
                {"expires": "soon"},
                {"expires": "2026-01-01T00:00:00"},  # whose midnight?
                {"created": None} | {"created": 5},
                {"rows": None},
                {"rows": [{"field": "site"}]},
                {"rows": [{"field": "site", "operator": "OR", "value": 1}]},
                {"rows": [{"field": "site", "operator": "=", "value": None}]},
                {"rows": [{"field": "site", "operator": "exists", "value": False}]},
                {"rate_per_s": -1},
                {"name": ""},
                {"extra": 1},
            )
        ),
    ],
)
def test_a_damaged_file_lets_nobody_in(tmp_path, damage):
    file = tmp_path / "tokens.json"
    file.write_bytes(damage)
    with pytest.raises(AccessUnavailable, match=r"tokens\.json"):
        TokenBook(str(file)).read()
    with pytest.raises(AccessUnavailable):
        TokenBook(str(file)).make(Wanted("viewer"))
    assert file.read_bytes() == damage


def test_a_file_that_was_damaged_meanwhile_lets_nobody_in(book, tmp_path):
    book.make(Wanted("viewer"))
    assert book.read()
    (tmp_path / "tokens.json").write_text("{")
    for _ in range(2):
        with pytest.raises(AccessUnavailable):
            book.read()


@pytest.mark.parametrize(
    "wanted",
    [
        lambda: Wanted("viewer", expires_days=0),
        lambda: Wanted("viewer", expires_days=-1),
        lambda: Wanted("viewer", expires_days=float("nan")),
    ],
)
def test_a_life_that_is_none_is_refused(wanted):
    with pytest.raises(SettingError):
        wanted()


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "a\x1b[31m"])
def test_a_name_that_could_confuse_a_log_is_refused(book, name):
    with pytest.raises(SettingError, match="printable"):
        book.make(Wanted(name))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("site=north", Condition("site", "=", "north")),
        ("site = north wing", Condition("site", "=", "north wing")),
        ("site!=north", Condition("site", "!=", "north")),
        ("age >= 60", Condition("age", ">=", "60")),
        ("age<60", Condition("age", "<", "60")),
        ("site in north, south", Condition("site", "in", ["north", "south"])),
        ("odd name = a=b", Condition("odd name", "=", "a=b")),
        ("origin = x", Condition("origin", "=", "x")),  # holds `in`
    ],
)
def test_a_condition_is_read_from_the_command_line(text, condition):
    assert parse_condition(text) == condition


@pytest.mark.parametrize("text", ["", "site", "=north", "site=", "in", "site in"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(FilterInvalid, match="no condition"):
        parse_condition(text)


def test_texts_become_what_their_column_holds():
    columns = pa.schema([("site", pa.string()), ("age", pa.int64()), ("frozen", pa.bool_())])
    said = [
        Condition("site", "=", "12"),
        Condition("age", "in", ["60", "x"]),
        Condition("frozen", "=", "true"),
        Condition("nope", "=", "1"),
    ]
    assert [one.value for one in typed(said, columns)] == ["12", [60, "x"], True, "1"]


def test_make_list_and_revoke_on_the_command_line(tmp_path):
    file = tmp_path / "tokens.json"
    made = run("make", "north", "--tokens", file, "--rows", "site = north", "--expires-days", 9)
    assert made.exit_code == 0
    secret = made.stdout.strip()
    listed = run("list", "--tokens", file, "--json")
    (facts,) = json.loads(listed.stdout)["tokens"]
    assert facts["status"] == "valid"
    assert "hash" not in facts
    assert secret not in listed.output + run("list", "--tokens", file).output
    assert found(TokenBook(str(file)).read(), secret, NOW)
    assert run("revoke", facts["id"], "--tokens", file).exit_code == 0
    assert found(TokenBook(str(file)).read(), secret, NOW) is None
    assert "revoked" in run("list", "--tokens", file).stdout


def test_make_as_json(tmp_path):
    made = run("make", "x", "--tokens", tmp_path / "t.json", "--json", "--role", "operator")
    facts = json.loads(made.stdout)
    assert facts["token"].startswith("mt_")
    assert facts["role"] == "operator"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["list"], 1, "isn't there"),
        (["revoke", "1"], 2, "no token '1'"),
        (["make", "x", "--rows", "site"], 1, "no condition"),
        (["make", "x", "--expires-days", "0"], 2, "expires_days"),
        (["make", "x", "--rate", "0"], 2, "rate"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, words, code, said):
    done = run(*words, "--tokens", tmp_path / "tokens.json")
    assert done.exit_code == code
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "tokens.json").exists()
