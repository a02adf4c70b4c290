"""Decoded tiles are kept within bounds, and never decoded twice at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from microtome.slides.tiff_cache import TileCache, TileKey

TILE_BYTES = 8 * 8 * 3


class Decoder:
    """Counts what it decodes; a tile's pixels hold its number."""

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken
        self.decoded: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.begun = threading.Event()

    def __call__(self, keys: Sequence[TileKey]) -> Iterator[np.ndarray]:
        self.begun.set()
        assert self.may_go_on.wait(60)
        for key in keys:
            self.decoded.append(key.tile)
            if key.tile == self.broken:
                raise ValueError(f"tile {key.tile} is broken")
            yield np.full((8, 8, 3), key.tile, np.uint8)


def keys(*tiles: int) -> list[TileKey]:
    return [TileKey(0, tile, 1) for tile in tiles]


def test_tiles_come_by_their_key() -> None:
    found = TileCache(10 * TILE_BYTES).tiles(keys(3, 1, 2), Decoder())
    assert {key.tile: int(pixels[0, 0, 0]) for key, pixels in found.items()} == {3: 3, 1: 1, 2: 2}


def test_the_least_recently_used_leave_first() -> None:
    cache, decoder = TileCache(3 * TILE_BYTES), Decoder()
    for wanted in (keys(1, 2, 3), keys(1), keys(4), keys(1, 3, 4), keys(2)):
        cache.tiles(wanted, decoder)
    assert decoder.decoded == [1, 2, 3, 4, 2]


def test_a_level_and_a_reduction_have_tiles_of_their_own() -> None:
    cache, decoder = TileCache(9 * TILE_BYTES), Decoder()
    cache.tiles([TileKey(0, 1, 1), TileKey(1, 1, 1), TileKey(0, 1, 2)], decoder)
    assert decoder.decoded == [1, 1, 1]


@pytest.mark.parametrize("max_bytes", [0, TILE_BYTES - 1])
def test_without_room_every_tile_is_decoded_anew(max_bytes: int) -> None:
    cache, decoder = TileCache(max_bytes), Decoder()
    for _ in range(3):
        assert len(cache.tiles(keys(1, 2), decoder)) == 2
    assert decoder.decoded == [1, 2] * 3


def test_kept_tiles_can_not_be_written_to() -> None:
    cache = TileCache(9 * TILE_BYTES)
    (pixels,) = cache.tiles(keys(1), Decoder()).values()
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0


def test_a_tile_that_is_being_decoded_is_waited_for() -> None:
    cache, decoder = TileCache(9 * TILE_BYTES), Decoder()
    decoder.may_go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.tiles, keys(1, 2), decoder)
        assert decoder.begun.wait(60)
        second = pool.submit(cache.tiles, keys(2, 1), decoder)
        decoder.may_go_on.set()
        assert first.result(60).keys() == second.result(60).keys()
    assert decoder.decoded == [1, 2]


def test_who_waits_gets_only_the_tiles_it_wants() -> None:
    cache, decoder = TileCache(9 * TILE_BYTES), Decoder()
    decoder.may_go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(cache.tiles, keys(1, 2, 3), decoder)
        assert decoder.begun.wait(60)
        waiting = pool.submit(cache.tiles, keys(2), decoder)
        assert not wait([waiting], timeout=0.1).done  # it has found tile 2 under way
        decoder.may_go_on.set()
        assert list(waiting.result(60)) == keys(2)


def test_threads_that_want_each_others_tiles_all_end() -> None:
    cache, decoder = TileCache(4 * TILE_BYTES), Decoder()
    wanted = [keys(*np.random.default_rng(n).permutation(12)[:6].tolist()) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        for one, found in zip(
            wanted, pool.map(lambda k: cache.tiles(k, decoder), wanted, timeout=60), strict=True
        ):
            assert found.keys() == set(one)


def test_a_failure_reaches_who_waits_and_is_not_kept() -> None:
    cache, decoder = TileCache(9 * TILE_BYTES), Decoder(broken=2)
    decoder.may_go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.tiles, keys(1, 2), decoder)
        assert decoder.begun.wait(60)
        second = pool.submit(cache.tiles, keys(2), decoder)
        decoder.may_go_on.set()
        for one in (first, second):
            with pytest.raises(ValueError, match="tile 2 is broken"):
                one.result(60)
    decoder.broken = -1
    assert len(cache.tiles(keys(1, 2), decoder)) == 2
