from __future__ import annotations

import json
from datetime import UTC, date, datetime, time

import numpy as np
import pytest

from microtome.console import print_json


def printed(capsys: pytest.CaptureFixture[str], value: object) -> object:
    print_json(value)
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_what_json_has_no_number_for_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": float("nan"), "b": [float("inf"), 0.5, (float("-inf"),)], "c": {"d": np.nan}}
    assert printed(capsys, value) == {"a": None, "b": [None, 0.5, [None]], "c": {"d": None}}


def test_dates_are_texts(capsys: pytest.CaptureFixture[str]) -> None:
    days = [date(2026, 1, 2), time(3, 4), datetime(2026, 1, 2, 3, 4, tzinfo=UTC)]
    assert printed(capsys, days) == ["2026-01-02", "03:04:00", "2026-01-02T03:04:00+00:00"]


def test_what_has_no_place_in_json_is_an_error() -> None:
    with pytest.raises(TypeError):
        print_json({"a": object()})
