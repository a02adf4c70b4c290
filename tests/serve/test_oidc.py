"""JWTs of an issuer: the right one says who it is, and everything else is refused."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from microtome.errors import AccessUnavailable, SettingError, TokenRefused
from microtome_serve import oidc
from microtome_serve.filters import Condition
from microtome_serve.oidc import Bearer, Issuer, OidcSettings
from support.issuer import AUDIENCE, NAME, running_issuer


@pytest.fixture
def issuer():
    with running_issuer() as running:
        yield running


def settings_of(issuer, **further) -> OidcSettings:
    return OidcSettings(NAME, AUDIENCE, issuer.url, **further)


def test_a_right_token_says_who_it_is(issuer):
    assert Issuer(settings_of(issuer)).bearer(issuer.token()) == Bearer("oidc:anna", "reader", ())


def test_keys_are_fetched_once(issuer):
    verifier = Issuer(settings_of(issuer))
    for _ in range(5):
        verifier.bearer(issuer.token())
    assert issuer.asked == 1


def test_who_come_at_once_wait_for_one_fetch(issuer):
    verifier, together = Issuer(settings_of(issuer)), threading.Barrier(8)

    def come(token: str) -> str:
        together.wait()
        return verifier.bearer(token).name

    with ThreadPoolExecutor(8) as eight:
        assert set(eight.map(come, [issuer.token()] * 8)) == {"oidc:anna"}
    assert issuer.asked == 1


NOW = int(time.time())
DAY_S = 86_400  # longer than any run of the tests, which all begin at NOW


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://other.example"},
        {"iss": None},
        {"iss": NAME + "/"},
        {"aud": "another service"},
        {"aud": None},
        {"aud": []},
        {"exp": NOW - 60},
        {"exp": None},
        {"exp": "never"},
        {"nbf": NOW + DAY_S},
        {"iat": NOW + DAY_S},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "a\nb"},
        {"sub": "x" * 65},
        {"role": None},
        {"role": "admin"},
        {"role": "Reader"},
        {"role": ""},
        {"role": []},
        {"role": ["admin"]},
        {"role": {"reader": True}},
        {"role": 1},
    ],
)
def test_a_claim_that_is_not_as_expected_is_refused(issuer, wrong):
    with pytest.raises(TokenRefused):
        Issuer(settings_of(issuer)).bearer(issuer.token(wrong))


def b64(value: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_without_a_signature_is_refused(issuer):
    _, claims, _ = issuer.token().split(".")
    for alg in ("none", "None", "NONE", ""):
        unsigned = f"{b64({'alg': alg, 'typ': 'JWT', 'kid': 'one'})}.{claims}."
        with pytest.raises(TokenRefused):
            Issuer(settings_of(issuer)).bearer(unsigned)


def test_a_public_key_is_no_shared_secret(issuer):
    public = issuer.keys["one"].public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _, claims, _ = issuer.token().split(".")
    signed = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': 'one'})}.{claims}"
    signature = jwt.get_algorithm_by_name("HS256").sign(signed.encode(), pem)
    forged = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    with pytest.raises(TokenRefused, match="algorithm"):
        Issuer(settings_of(issuer)).bearer(forged)


def test_another_s_key_under_a_known_name_is_refused(issuer):
    forged = issuer.token(key=ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(TokenRefused):
        Issuer(settings_of(issuer)).bearer(forged)


def test_a_changed_claim_is_refused(issuer):
    head, _, signature = issuer.token().split(".")
    _, claims, _ = issuer.token({"role": "operator"}).split(".")
    with pytest.raises(TokenRefused):
        Issuer(settings_of(issuer)).bearer(f"{head}.{claims}.{signature}")


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b.c", "é.é.é", "x" * 9000, "eyJhbGciOiJFUzI1NiJ9.."]
)
def test_what_is_no_jwt_is_refused(issuer, text):
    with pytest.raises(TokenRefused):
        Issuer(settings_of(issuer)).bearer(text)


def test_an_unknown_key_asks_the_issuer_no_more_than_once_in_a_while(issuer):
    verifier = Issuer(settings_of(issuer))
    verifier.bearer(issuer.token())
    for number in range(5):
        with pytest.raises(TokenRefused):
            verifier.bearer(issuer.token(kid=f"made up {number}"))
    assert issuer.asked == 1


def test_a_new_key_is_taken_after_a_while(issuer, monkeypatch):
    monkeypatch.setattr(oidc, "PAUSE_S", 0.0)
    verifier = Issuer(settings_of(issuer))
    verifier.bearer(issuer.token())
    issuer.keys["two"] = ec.generate_private_key(ec.SECP256R1())
    assert verifier.bearer(issuer.token(kid="two")).name == "oidc:anna"


@pytest.mark.parametrize(
    "answer", [(500, b""), (200, b"<html>"), (200, b"[]"), (200, b'{"keys": []}'), (302, b"")]
)
def test_without_keys_nobody_gets_in_and_the_issuer_is_left_alone(issuer, answer):
    issuer.answer = answer
    verifier = Issuer(settings_of(issuer))
    for _ in range(3):
        with pytest.raises(AccessUnavailable):
            verifier.bearer(issuer.token())
    assert issuer.asked == 1


def test_keys_in_a_file_are_read_again_when_it_changes(issuer, tmp_path):
    file = tmp_path / "keys.json"
    verifier = Issuer(OidcSettings(NAME, AUDIENCE, str(file)))
    with pytest.raises(AccessUnavailable):
        verifier.bearer(issuer.token())
    file.write_text(json.dumps(issuer.keys_document))
    assert verifier.bearer(issuer.token()).role == "reader"
    old = issuer.token()
    issuer.keys = {"two": ec.generate_private_key(ec.SECP256R1())}
    (tmp_path / "new").write_text(json.dumps(issuer.keys_document))
    os.replace(tmp_path / "new", file)
    assert verifier.bearer(issuer.token(kid="two")).role == "reader"
    with pytest.raises(TokenRefused):
        verifier.bearer(old)


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("operator", "operator"),
        (["reader", "operator"], "operator"),
        (["another service's", "reader"], "reader"),
    ],
)
def test_roles(issuer, role, expected):
    assert Issuer(settings_of(issuer)).bearer(issuer.token({"role": role})).role == expected


def test_a_role_that_lies_deeper_and_has_another_name(issuer):
    verifier = Issuer(
        settings_of(issuer, role_claim="realm_access.roles", roles={"mt-read": "reader"})
    )
    assert verifier.bearer(issuer.token({"realm_access": {"roles": ["mt-read"]}})).role == "reader"
    for wrong in ({}, {"roles": "operator"}, "roles", None):
        with pytest.raises(TokenRefused):
            verifier.bearer(issuer.token({"realm_access": wrong}))


@pytest.mark.parametrize(
    ("said", "values"), [("north", ["north"]), (["north", "south"], ["north", "south"])]
)
def test_rows_come_from_a_claim(issuer, said, values):
    verifier = Issuer(settings_of(issuer, rows_claim="sites", rows_field="site"))
    assert verifier.bearer(issuer.token({"sites": said})).rows == (Condition("site", "in", values),)


@pytest.mark.parametrize("said", [None, "", [], [""], ["north", 5], {"north": 1}, True, 7])
def test_whose_rows_are_not_said_gets_none_at_all(issuer, said):
    verifier = Issuer(settings_of(issuer, rows_claim="sites", rows_field="site"))
    with pytest.raises(TokenRefused, match="sites"):
        verifier.bearer(issuer.token({"sites": said}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"audience": ""},
        {"keys": ""},
        {"keys": "http://issuer.example/keys"},
        {"algorithms": ()},
        {"algorithms": ("HS256",)},
        {"algorithms": ("none",)},
        {"roles": {}},
        {"roles": {"x": "admin"}},
        {"rows_claim": "site"},
        {"rows_field": "site"},
        {"leeway_s": -1},
        {"leeway_s": 1e9},
    ],
)
def test_settings_that_would_let_strangers_in_are_refused(wrong):
    right = {"issuer": NAME, "audience": AUDIENCE, "keys": "https://issuer.example/keys"}
    OidcSettings(**right)
    with pytest.raises(SettingError):
        OidcSettings(**(right | wrong))
