from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from microtome_serve.questions import ByPolygon


def circle(corners: int) -> dict[str, object]:
    turns = [2 * math.pi * number / corners for number in range(corners)]
    places = [(500 + 400 * math.cos(turn), 500 + 400 * math.sin(turn)) for turn in turns]
    return {"kind": "polygon", "slide_id": "a", "corners": places}


def test_an_outline_has_no_more_corners_than_a_server_cuts_out_soon():
    assert len(ByPolygon.model_validate(circle(1000)).query().corners) == 1000
    with pytest.raises(ValidationError, match="corners"):
        ByPolygon.model_validate(circle(1001))
