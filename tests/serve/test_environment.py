"""What a Ray of our own finds in its environment, unless somebody wants it otherwise."""

from __future__ import annotations

import os

import pytest

from microtome_serve import front
from microtome_serve.environment import PATIENT, preset

READY_S, NICENESS = "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "RAY_worker_niceness"
REPLICAS_LISTEN = "RAY_SERVE_ENABLE_DIRECT_INGRESS"

# the environment before, and what of it is found
ENVIRONMENTS = [
    ({}, {READY_S: "60", NICENESS: "0"}),
    ({NICENESS: "15"}, {READY_S: "60", NICENESS: "15"}),
    ({READY_S: "5", "HOME": "/"}, {READY_S: "5", NICENESS: "0", "HOME": "/"}),
]


@pytest.mark.parametrize(("before", "found"), ENVIRONMENTS)
def test_what_is_set_stays_and_what_was_not_is_so_no_longer(before, found, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(before))
    with preset(PATIENT):
        assert os.environ == found

    assert os.environ == before


@pytest.mark.parametrize(("program", "listen"), [(None, None), ("/bin/haproxy", "1")])
def test_replicas_listen_themselves_where_haproxy_asks_them(program, listen, monkeypatch):
    monkeypatch.setattr(front, "program", lambda: program)

    assert front.replicas_listen().get(REPLICAS_LISTEN) == listen
