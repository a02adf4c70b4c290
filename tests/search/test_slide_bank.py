from __future__ import annotations

from threading import Event

import pytest

from microtome.errors import DeadlinePassed
from microtome.search import patience, slide_bank
from microtome.search.patience import Patience
from microtome.search.query import SlideQuery
from microtome.search.slide_result import SlideSettings
from microtome.search.slide_searcher import SlideSearcher
from support.coloured_atlas import MeanColour, make_atlas
from support.quilts import QUILTS


def test_mosaics_made_before_nobody_waits_any_more_are_kept_for_the_next(tmp_path, monkeypatch):
    searcher = SlideSearcher(make_atlas(tmp_path, MeanColour(), QUILTS))
    gone, made, make = Event(), [], slide_bank.make_mosaic

    def counted(*asked):
        made.append(asked)
        if len(made) == 3:
            gone.set()
        return make(*asked)

    monkeypatch.setattr(slide_bank, "make_mosaic", counted)

    with patience.shown(Patience(cancelled=gone)), pytest.raises(DeadlinePassed):
        searcher.search(SlideQuery("mix"))
    assert len(made) == 3
    found = searcher.search(SlideQuery("mix"), SlideSettings(k=100))
    assert len(found.hits) == len(made) == len(QUILTS)
