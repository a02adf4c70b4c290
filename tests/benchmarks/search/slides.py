"""Search for slides as their number grows, beside one flat scan of a thousand slides' mosaics.

Slides are made (`Kinds`): 100 tiles of 128 values, which are their whole mosaic, of kinds with 500
slides each, so that a query's nearest are hard to tell from many. They are asked with as slides of
the atlas, their case left out. `compared` is the comparison alone, candidates and all; `searched`
is `SlideSearcher.search`, with its ten hits, their tiles and evidence. Recall is that of the ten
nearest among all by the same method. The flat scan is faiss's, of all vectors of 1,000 slides by
the 100 of a query, in the same process. One thread does all, and times are its CPU time, medians of
40 queries, as others may use the machine meanwhile; Lance's own threads count.

MICROTOME_BENCH_SLIDES: sizes, e.g. 1000,10000. 100,000 slides take 6 GB in MICROTOME_BENCH_FOLDER.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from microtome.search.slide_methods import Field, Tissue, by_mean, by_mosaic
from microtome.search.slide_result import SlideSettings
from microtome.search.slide_searcher import SlideSearcher
from support.many_slides import Kinds, make_slides, slide_name

SIZES = [int(n) for n in os.environ.get("MICROTOME_BENCH_SLIDES", "1000,10000,100000").split(",")]
DIM, TILES, K, QUERIES, OF_A_KIND = 128, 100, 10, 40, 500
JUDGED = 6  # queries whose nearest are also found by comparing all
METHODS = {"mosaic": by_mosaic, "mean": by_mean}


@dataclass(frozen=True)
class Measured:
    """One method at one size: median CPU ms, and recall@10."""

    compared_ms: float
    searched_ms: float
    recall: float


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


def median_ms(ask: Callable[[int], object], count: int) -> float:
    """CPU time of asking with each of so many slides, after each was asked with once."""
    for number in range(count):
        ask(number)
    seconds = []
    for number in range(count):
        started = time.process_time()
        ask(number)
        seconds.append(time.process_time() - started)
    return float(np.median(seconds)) * 1e3


def measure(searcher: SlideSearcher, method: str, slides: int) -> Measured:
    """One method; asked with slides that lie far apart in the atlas."""
    asked = [slide_name(slides // QUERIES * number) for number in range(QUERIES)]
    settings = SlideSettings(k=K, method=method, exclude="case")  # type: ignore[arg-type]
    everything = SlideSettings(k=K, method=method, exclude="case", exact=True)  # type: ignore[arg-type]

    def search(number: int, how: SlideSettings = settings) -> set[str | None]:
        return {hit.slide_id for hit in searcher.search(SlideQuery(asked[number]), how).hits}

    (views,) = searcher._views.values() or [None]
    if views is None:
        search(0)
        (views,) = searcher._views.values()
    view = views.view()
    bank = view.bank(None, print)
    tissues = [Tissue.of_mosaic(view.mosaics([name], None)[0]) for name in asked]
    field = Field(bank, bank.places)
    compared = median_ms(lambda number: METHODS[method](tissues[number], field), QUERIES)
    searched = median_ms(search, QUERIES)
    shares = [len(search(n) & search(n, everything)) / K for n in range(JUDGED)]
    return Measured(compared, searched, float(np.mean(shares)))


def flat_scan_ms(kinds: Kinds) -> float:
    """faiss's flat search by a mosaic through those of 1,000 slides."""
    (vectors,) = kinds.slides(1000, TILES)
    index = faiss.IndexFlatIP(DIM)
    index.add(vectors)
    faiss.omp_set_num_threads(1)
    mosaics = vectors.reshape(1000, TILES, DIM)
    return median_ms(lambda number: index.search(mosaics[number * 20], K), QUERIES)


def check_stored(folder: Path) -> None:
    """The short cut of `store` makes what `microtome maintain` makes."""
    atlas = make_slides(str(folder / "check"), Kinds(DIM), 20, TILES)
    (model_id,) = atlas.models
    store(atlas)
    assert len(rows_by_slide(atlas.tiles, model_id)) == 20
    assert refresh_mosaics(atlas, model_id, least_tiles=1).made == 0


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("MICROTOME_BENCH_FOLDER")) as folder:
        check_stored(Path(folder))
        flat_ms = flat_scan_ms(Kinds(DIM, kinds=20))
        load = f"load {os.getloadavg()[0]:.1f}"
        print(f"## Slides\n\none thread, {load}; flat scan of 1,000 slides {flat_ms:.1f} ms\n")
        print("| slides | by | compared, ms | × flat scan | searched, ms | recall@10 | stored, s |")
        print("|---:|---|---:|---:|---:|---:|---:|")
        for slides in SIZES:
            place = Path(folder) / str(slides)
            atlas = make_slides(
                str(place), Kinds(DIM, kinds=max(20, slides // OF_A_KIND)), slides, TILES
            )
            stored_s = store(atlas)
            searcher = SlideSearcher(atlas)
            for method in METHODS:
                found = measure(searcher, method, slides)
                print(
                    f"| {slides:,} | {method} | {found.compared_ms:.1f} | "
                    f"{found.compared_ms / flat_ms:.2f} | {found.searched_ms:.1f} | "
                    f"{found.recall:.3f} | {stored_s:,.0f} |",
                    flush=True,
                )
            print(f"| | flat scan, again | {flat_scan_ms(Kinds(DIM, kinds=20)):.1f} | | | | |")
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
