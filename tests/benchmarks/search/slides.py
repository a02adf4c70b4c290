"""Search for slides as their number grows, beside one flat scan of a thousand slides' mosaics.

Slides are made (`Kinds`): 100 tiles of 128 values, which are their whole mosaic, of kinds with 500
slides each, so that a query's nearest are hard to tell from many. They are asked with as slides of
the atlas, their case left out. `compared` is the comparison alone, candidates and all; `searched`
is `SlideSearcher.search`, with its ten hits, their tiles and evidence. Recall is that of the ten
nearest among all by the same method. The flat scan is faiss's, of all vectors of 1,000 slides by
the 100 of a query. One thread does all. Times are medians of CPU time, as others may use the
machine meanwhile, and each query is asked of every size in turn.

MICROTOME_BENCH_SLIDES: sizes, e.g. 1000,10000. 100,000 slides take 6 GB in MICROTOME_BENCH_FOLDER.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import faiss
import numpy as np

from microtome.atlas.atlas import Atlas
from microtome.atlas.mosaic import Mosaic
from microtome.atlas.mosaic_building import refresh_mosaics, rows_by_slide
from microtome.atlas.mosaic_files import MosaicsCard
from microtome.atlas.mosaic_writing import write_mosaics
from microtome.atlas.schema import vector_column
from microtome.search.query import SlideQuery
from microtome.search.slide_means import by_mean
from microtome.search.slide_methods import Field, Tissue, by_mosaic
from microtome.search.slide_result import SlideSettings
from microtome.search.slide_searcher import SlideSearcher
from support.many_slides import Kinds, make_slides, slide_name

SIZES = [int(n) for n in os.environ.get("MICROTOME_BENCH_SLIDES", "1000,10000,100000").split(",")]
DIM, TILES, K, QUERIES, OF_A_KIND, ROUNDS = 128, 100, 10, 20, 500, 3
JUDGED = 6  # queries whose nearest are also found by comparing all
METHODS = {"mosaic": by_mosaic, "mean": by_mean}


@dataclass(frozen=True)
class Grown:
    """An atlas of one size: who searches it, with what, among what; how long storing took."""

    slides: int
    searcher: SlideSearcher
    tissues: list[Tissue]
    field: Field
    stored_s: float

    @classmethod
    def to(cls, slides: int, folder: Path) -> Grown:
        """Make it."""
        kinds = Kinds(DIM, kinds=max(20, slides // OF_A_KIND))
        atlas = make_slides(str(folder / str(slides)), kinds, slides, TILES)
        stored_s = store(atlas)
        searcher = SlideSearcher(atlas)
        searcher.search(SlideQuery(slide_name(0)))
        (views,) = searcher._views.values()
        view = views.view()
        bank = view.bank(None, print)
        names = [slide_name(slides // QUERIES * number) for number in range(QUERIES)]
        tissues = [Tissue.of_mosaic(view.mosaics([name], None)[0]) for name in names]
        return cls(slides, searcher, tissues, Field(bank, bank.places, K), stored_s)

    def compare(self, method: str, number: int) -> None:
        """Ask one query of the comparison alone."""
        METHODS[method](self.tissues[number], self.field)

    def search(self, method: str, number: int, *, exact: bool = False) -> set[str | None]:
        """Ask one query of the whole search."""
        settings = SlideSettings(k=K, method=method, exclude="case", exact=exact)  # type: ignore[arg-type]
        query = SlideQuery(slide_name(self.slides // QUERIES * number))
        return {hit.slide_id for hit in self.searcher.search(query, settings).hits}

    def recall(self, method: str) -> float:
        """Of the ten nearest of a few queries, the share that is found."""
        shares = [
            len(self.search(method, n) & self.search(method, n, exact=True)) / K
            for n in range(JUDGED)
        ]
        return float(np.mean(shares))


def store(atlas: Atlas) -> float:
    """Store the mosaics of slides that are their own, as `refresh_mosaics` would; seconds."""
    (model_id,) = atlas.models
    tiles = atlas.tiles

    def mosaics() -> Iterator[tuple[str, Mosaic]]:
        scanner = tiles.scanner(
            columns=[vector_column(model_id), "slide_id"],
            with_row_id=True,
            batch_size=TILES,
            scan_in_order=True,
        )
        for block in scanner.to_batches():
            vectors = block.column(0).flatten().to_numpy().reshape(-1, DIM)
            row_ids = block.column("_rowid").to_numpy().astype(np.int64)
            yield block.column("slide_id")[0].as_py(), Mosaic.of(vectors, row_ids)

    started = time.perf_counter()
    card = MosaicsCard(model_id, 0, tiles.version, 0, 0, {}, [], {})
    write_mosaics(atlas.uri, card, mosaics())
    return time.perf_counter() - started


def flat_scan(kinds: Kinds) -> Callable[[int], object]:
    """faiss's flat search by a mosaic through those of 1,000 slides."""
    (vectors,) = kinds.slides(1000, TILES)
    index = faiss.IndexFlatIP(DIM)
    index.add(vectors)
    faiss.omp_set_num_threads(1)
    mosaics = vectors.reshape(1000, TILES, DIM)
    return lambda number: index.search(mosaics[number * 20], K)


def medians_ms(asked: dict[str, Callable[[int], object]]) -> dict[str, float]:
    """CPU time of each, one after the other with every query, in rounds; the first warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for turn in range(ROUNDS + 1):
        for number in range(QUERIES):
            for name, ask in asked.items():
                started = time.process_time()
                ask(number)
                if turn:
                    seconds[name].append(time.process_time() - started)
    return {name: float(np.median(each)) * 1e3 for name, each in seconds.items()}


def check_stored(folder: Path) -> None:
    """The short cut of `store` makes what `microtome maintain` makes."""
    atlas = make_slides(str(folder / "check"), Kinds(DIM), 20, TILES)
    (model_id,) = atlas.models
    store(atlas)
    assert len(rows_by_slide(atlas.tiles, model_id)) == 20
    assert refresh_mosaics(atlas, model_id, least_tiles=1).made == 0


def main() -> None:
    """Print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before it was done"))
    with tempfile.TemporaryDirectory(dir=os.environ.get("MICROTOME_BENCH_FOLDER")) as folder:
        check_stored(Path(folder))
        grown = [Grown.to(slides, Path(folder)) for slides in SIZES]
        asked: dict[str, Callable[[int], object]] = {"flat": flat_scan(Kinds(DIM, kinds=20))}
        for one in grown:
            for method in METHODS:
                asked[f"{one.slides} {method} compared"] = partial(one.compare, method)
                asked[f"{one.slides} {method} searched"] = partial(one.search, method)
        times = medians_ms(asked)
        load = f"load {os.getloadavg()[0]:.1f}"
        print(f"## Slides\n\n{load}; flat scan of 1,000 slides {times['flat']:.1f} ms\n")
        print("| slides | by | compared, ms | × flat scan | searched, ms | recall@10 | stored, s |")
        print("|---:|---|---:|---:|---:|---:|---:|")
        for one in grown:
            for method in METHODS:
                compared = times[f"{one.slides} {method} compared"]
                searched = times[f"{one.slides} {method} searched"]
                print(
                    f"| {one.slides:,} | {method} | {compared:.1f} | "
                    f"{compared / times['flat']:.2f} | {searched:.1f} | "
                    f"{one.recall(method):.3f} | {one.stored_s:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
