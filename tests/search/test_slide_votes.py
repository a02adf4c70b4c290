from __future__ import annotations

import numpy as np

from microtome.search.query import VectorQuery
from microtome.search.slide_searcher import SlideSearcher
from support.many_slides import Kinds, make_slides
from support.memory import watched_memory
from support.quilts import search


def test_votes_of_very_many_tiles_take_no_more_memory_than_those_of_few(tmp_path):
    kinds = Kinds(dim=4, kinds=4, tissues=10, mixed=3)
    searcher = SlideSearcher(make_slides(str(tmp_path / "atlas"), kinds, 170, tiles=100))
    vectors = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    search(searcher, VectorQuery(vectors[:1]), method="votes")
    with watched_memory() as growth:
        search(searcher, VectorQuery(vectors), method="votes", k=3)
    assert growth.most_bytes < 400e6, "at once, all cosines and their rows take 800 MB"
