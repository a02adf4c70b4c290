"""Compact codes of vectors, held in memory, that say which few tiles are worth comparing exactly.

faiss alone is known here. Vectors are rotated at random, sorted into lists by their nearest of
`lists` centroids, and kept as RaBitQ codes of a few bits per value (Gao & Long, "RaBitQ", SIGMOD
2024, arXiv:2405.12497; several bits: arXiv:2409.09913): `bits` × D / 8 bytes and 28 more each,
whereof 8 are the row's id. At 512 values and 2 bits that is 156 bytes, a thirteenth of float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from microtome.config import check_whole

QUERY_BITS = 4  # of a query's values; 0, faiss's default, keeps them whole and is 100 times slower
TRAIN_PER_LIST = 50
TRAIN_ROUNDS = 8
THREADS = faiss.omp_get_max_threads()
ALONE = 8  # vectors: fewer are searched by one thread, since gathering the others costs more


@dataclass(frozen=True, slots=True)
class CodePlan:
    """How vectors are coded.

    Attributes:
        lists: centroids; each vector lies in the list of its nearest one.
        bits: per value, 1 to 4.
        probes: lists that one query looks into, unless more effort is asked for.
    """

    lists: int
    bits: int = 2
    probes: int = 1

    def __post_init__(self) -> None:
        check_whole("lists", self.lists, least=1)
        check_whole("bits", self.bits, least=1, most=4)
        check_whole("probes", self.probes, least=1, most=self.lists)

    @classmethod
    def for_rows(cls, rows: int) -> CodePlan:
        """The plan for so many vectors.

        1,024 lists at a million rows, and as rows^¾: a query compares with the centroids and with
        the codes of `probes` lists, and this keeps the two in balance up to a billion. Two bits,
        since each candidate costs a random read of the table: at recall 0.95 they need 30 where
        one bit needs 100. 16 + 1.5 √lists probes held that recall from 100 thousand to 3 million
        rows of vectors whose ten nearest lie in many lists (`tests/benchmarks/RESULTS.md`).
        """
        lists = max(1, round(1024 * (rows / 1e6) ** 0.75))
        return cls(lists, probes=min(lists, math.ceil(16 + 1.5 * math.sqrt(lists))))


@dataclass(frozen=True, slots=True)
class CodedPart:
    """Codes of some vectors, taken out of `Codes` so that others of the same centroids get them.

    Attributes:
        sizes: (lists,) int64, how many codes lie in each list.
        row_ids: (N,) int64, list by list.
        codes: (N, bytes of a code) uint8, likewise.
    """

    sizes: NDArray[np.int64]
    row_ids: NDArray[np.int64]
    codes: NDArray[np.uint8]


class Codes:
    """The codes of many vectors, by row id; safe to search from many threads."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self._lists: Any = faiss.extract_index_ivf(index)

    @classmethod
    def trained(cls, plan: CodePlan, sample: NDArray[np.float32], seed: int = 0) -> Self:
        """No codes yet, but the centroids, from a sample (N, D) of unit vectors, N ≥ lists."""
        dim = sample.shape[1]
        rotation = faiss.RandomRotationMatrix(dim, dim)
        rotation.init(seed)
        lists = faiss.IndexIVFRaBitQ(
            faiss.IndexFlatIP(dim), dim, plan.lists, faiss.METRIC_INNER_PRODUCT, True, plan.bits
        )
        lists.cp.niter, lists.cp.seed, lists.cp.spherical = TRAIN_ROUNDS, seed, True
        lists.cp.min_points_per_centroid = 1  # no warnings to a console
        lists.cp.max_points_per_centroid = TRAIN_PER_LIST
        index = faiss.IndexPreTransform(rotation, lists)
        _use_threads(THREADS)
        index.train(np.ascontiguousarray(sample))
        return cls(index)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Codes from a file whose hash was checked.

        Raises:
            ValueError: faiss can't read it, or it holds something else.
        """
        try:
            return cls(faiss.read_index(str(path)))
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"faiss can't read {path.name}") from error

    def write(self, path: Path) -> None:
        """Write the codes to a local file.

        Raises:
            OSError: the disk is full, or refuses.
        """
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"faiss can't write {path.name}: {error}") from error

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def lists(self) -> int:
        """How many lists there are."""
        return int(self._lists.nlist)

    @property
    def row_ids(self) -> NDArray[np.int64]:
        """(N,) row ids of all codes, in no order."""
        held = self._lists.invlists
        parts = [
            faiss.rev_swig_ptr(held.get_ids(number), held.list_size(number)).copy()
            for number in range(self.lists)
            if held.list_size(number)
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def add(self, row_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Code (N, D) unit vectors."""
        if len(row_ids):
            _use_threads(THREADS)
            self._index.add_with_ids(np.ascontiguousarray(vectors), row_ids.astype(np.int64))

    def bare(self) -> NDArray[np.uint8]:
        """The centroids without any codes, as bytes for `of_bare`."""
        lists = self._lists
        held, empty = lists.invlists, faiss.ArrayInvertedLists(lists.nlist, lists.code_size)
        lists.own_invlists = False  # else it would delete what it lets go of
        lists.replace_invlists(empty, False)
        try:
            data: NDArray[np.uint8] = faiss.serialize_index(self._index)
        finally:
            lists.replace_invlists(held, True)
        return data

    @classmethod
    def of_bare(cls, data: NDArray[np.uint8]) -> Self:
        """Codes with the centroids of others, and no vectors yet."""
        codes = cls(faiss.deserialize_index(data))
        codes._lists.ntotal = codes._index.ntotal = 0
        return codes

    def part(self) -> CodedPart:
        """A copy of all codes."""
        held, size = self._lists.invlists, self._lists.code_size
        sizes = np.array([held.list_size(number) for number in range(self.lists)], np.int64)
        codes = [
            faiss.rev_swig_ptr(held.get_codes(number), int(sizes[number]) * size).copy()
            for number in np.flatnonzero(sizes).tolist()
        ]
        flat = np.concatenate([np.empty(0, np.uint8), *codes])
        return CodedPart(sizes, self.row_ids, flat.reshape(-1, size))

    def take_in(self, part: CodedPart) -> None:
        """Add codes that were made with the same centroids, behind those that are there."""
        held = self._lists.invlists
        ends = np.cumsum(part.sizes)
        for number in np.flatnonzero(part.sizes).tolist():
            mine = slice(ends[number] - part.sizes[number], ends[number])
            held.add_entries(
                number,
                int(part.sizes[number]),
                faiss.swig_ptr(part.row_ids[mine]),
                faiss.swig_ptr(part.codes[mine]),
            )
        self._lists.ntotal += len(part.row_ids)
        self._index.ntotal = self._lists.ntotal

    def remove(self, row_ids: NDArray[np.int64]) -> None:
        """Remove the codes of rows, where there are some; their bytes are gone when written."""
        if len(row_ids):
            self._lists.remove_ids(faiss.IDSelectorBatch(row_ids.astype(np.int64)))
            self._index.ntotal = self._lists.ntotal

    def search(
        self,
        vectors: NDArray[np.float32],
        count: int,
        probes: int,
        allowed: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.int64]:
        """Rows whose codes say that they may be nearest.

        Args:
            vectors: (Q, D) float32 of unit length.
            count: how many rows per vector.
            probes: how many lists to look into.
            allowed: bits by row id, lowest first; other rows are passed over. None allows all.

        Returns:
            (Q, count) row ids, best first by estimate, −1 where there are no more.
        """
        inner = faiss.IVFRaBitQSearchParameters()
        inner.nprobe, inner.qb = min(probes, self.lists), QUERY_BITS
        if allowed is not None:
            inner.sel = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(allowed))
        _use_threads(1 if len(vectors) < ALONE else THREADS)
        outer = faiss.SearchParametersPreTransform()
        outer.index_params = inner
        _, found = self._index.search(np.ascontiguousarray(vectors), count, params=outer)
        rows: NDArray[np.int64] = found
        return rows


def _use_threads(count: int) -> None:
    """How many threads faiss takes for the calls of the thread that this runs in."""
    faiss.omp_set_num_threads(count)
