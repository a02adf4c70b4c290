"""Whether the answers are known beforehand: the same case, image or nearly so on both sides.

Four looks, each at what is there to look at:

- the same group (slide, case) among queries and gallery;
- the same pixels, by hash, whatever file holds them;
- the same vector, bit for bit: a copy, or a model that can't tell two images apart;
- nearly the same vector, cosine at least 0.999 unless said: a copy that was encoded anew, scaled or
  shifted by a pixel, or again such a model.

What is left out of a query's answers can't leak into them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from microtome.errors import EvaluationError
from microtome.evaluation.cosines import digests
from microtome.evaluation.left_out import LeftOut, findable
from microtome.evaluation.neighbours import Neighbours, nearest_in

NEAR: Final = 0.999
EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of queries, or of a gallery; what is None can't be compared.

    Attributes:
        names: (N,) what to call each image in an example.
        groups: (N,) slide or case; None where nobody says.
        hashes: (N,) of the pixels: `datasets.duplicates.pixel_hashes`.
        vectors: (N, D) any length.

    Raises:
        EvaluationError: of different lengths N.
    """

    names: Sequence[str]
    groups: Sequence[str | None] | None = None
    hashes: Sequence[str] | None = None
    vectors: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for what in ("groups", "hashes", "vectors"):
            given = getattr(self, what)
            if given is not None and len(given) != len(self.names):
                raise EvaluationError(f"{len(given):,} {what} for {len(self.names):,} images")


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found.

    Attributes:
        queries: how many queries have such an image in the gallery; None where nothing could be
            compared.
        examples: some of them, by name: query and image of the gallery.
    """

    queries: int | None
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Leakage:
    """What of the answers was known beforehand.

    Attributes:
        queries: how many were looked at.
        same_group: queries of a group that is in the gallery too.
        same_pixels: queries whose very pixels are in the gallery.
        same_vector: queries whose very vector is.
        near_vector: queries with a vector that isn't equal but nearly so.
        threshold: the cosine that is nearly so.
        ungrouped: images of either side of which nobody says what group they are of.
    """

    queries: int
    same_group: Look
    same_pixels: Look
    same_vector: Look
    near_vector: Look
    threshold: float
    ungrouped: int = 0

    @property
    def found(self) -> bool:
        """Whether any look found anything."""
        looks = (self.same_group, self.same_pixels, self.same_vector, self.near_vector)
        return any(look.queries for look in looks)

    def sentences(self) -> tuple[str, ...]:
        """What was found and what could not be looked for, a sentence each; none if all is well."""
        near = (
            f"have a vector in the gallery with a cosine of {self.threshold:g} or more: copies "
            "encoded anew, or images that the model can't tell apart"
        )
        lines = [
            *self._said(self.same_group, "are of a group that is in the gallery too", "groups"),
            *self._said(self.same_pixels, "have their very pixels in the gallery", "pixel hashes"),
            *self._said(self.same_vector, "have their very vector in the gallery", "vectors"),
        ]
        if self.near_vector.queries:
            lines += self._said(self.near_vector, near, "vectors")
        if self.ungrouped and self.same_group.queries is not None:
            lines.append(
                f"{self.ungrouped:,} images have no group: whether they are of one that is on the "
                "other side can't be said"
            )
        return tuple(lines)

    def _said(self, look: Look, what: str, needed: str) -> list[str]:
        if look.queries is None:
            return [f"without {needed} of both sides it can't be said whether they share any"]
        if not look.queries:
            return []
        query, image = look.examples[0]
        return [f"{look.queries:,} of {self.queries:,} queries {what}, e.g. {query} and {image}"]

    def to_json(self) -> dict[str, Any]:
        """The attributes by name, ready for `json.dumps`."""
        return {"found": self.found} | asdict(self)


def check(
    queries: Side,
    gallery: Side,
    *,
    left_out: LeftOut | None = None,
    threshold: float = NEAR,
    nearest: Neighbours | None = None,
) -> Leakage:
    """Look for images of the queries, or of their groups, in the gallery.

    Args:
        queries: who asks.
        gallery: who is found; the same images where a set asks itself, with `left_out` then.
        left_out: what each query may not find: that is no leak.
        threshold: cosine from which two vectors are nearly the same.
        nearest: what each query finds by these vectors, where that is known already.

    Raises:
        VectorsInvalid: vectors that hold NaN or infinity, or are of two lengths.
        EvaluationError: groups in `left_out` for another number of images.
    """
    if left_out is not None:
        left_out.check(len(queries.names), len(gallery.names))
    names = queries.names, gallery.names
    vectors = _Shared.of(_digests(queries), _digests(gallery), left_out)
    return Leakage(
        len(queries.names),
        _look(_Shared.of(_known(queries.groups), _known(gallery.groups), left_out), names),
        _look(_Shared.of(queries.hashes, gallery.hashes, left_out), names),
        _look(vectors, names),
        _look(_Near.among(queries, gallery, vectors, threshold, nearest), names),
        threshold,
        sum(group is None for side in (queries, gallery) for group in side.groups or ()),
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """Keys of both sides as numbers: equal ones are shared.

    Attributes:
        asked: (Q,) of the queries.
        found: (G,) of the gallery.
        left_out: what each query may not find.
    """

    asked: NDArray[np.int64]
    found: NDArray[np.int64]
    left_out: LeftOut | None

    @classmethod
    def of(
        cls,
        here: Sequence[Hashable] | None,
        there: Sequence[Hashable] | None,
        left_out: LeftOut | None,
    ) -> Self | None:
        if here is None or there is None:
            return None
        number = {key: i for i, key in enumerate(dict.fromkeys([*here, *there]))}
        number.pop(None, None)  # who has no key shares none
        asked = np.array([number.get(key, len(number) + 1) for key in here], dtype=np.int64)
        found = np.array([number.get(key, len(number) + 2) for key in there], dtype=np.int64)
        return cls(asked, found, left_out)

    def queries(self) -> NDArray[np.int64]:
        """Those that share their key with an image they may find."""
        return np.flatnonzero(findable(self.asked, self.found, self.left_out))

    def example(self, query: int) -> int:
        """The first such image of a query."""
        shared = self.found == self.asked[query]
        if self.left_out is not None:
            shared &= self.left_out.gallery != self.left_out.queries[query]
        return int(shared.argmax())


@dataclass(frozen=True, slots=True)
class _Near:
    """Queries whose nearest image is nearly, but not quite, the same.

    Attributes:
        of: (N,) which queries.
        nearest: (Q,) the nearest image of each query.
    """

    of: NDArray[np.int64]
    nearest: NDArray[np.int64]

    @classmethod
    def among(
        cls,
        queries: Side,
        gallery: Side,
        equal: _Shared | None,
        threshold: float,
        nearest: Neighbours | None,
    ) -> Self | None:
        if queries.vectors is None or gallery.vectors is None or equal is None:
            return None
        found = nearest or nearest_in(gallery.vectors, queries.vectors, 1, left_out=equal.left_out)
        near = np.flatnonzero(found.scores[:, 0] >= threshold)
        return cls(np.setdiff1d(near, equal.queries()), found.places[:, 0])

    def queries(self) -> NDArray[np.int64]:
        """Those with such an image."""
        return self.of

    def example(self, query: int) -> int:
        """That image."""
        return int(self.nearest[query])


def _known(groups: Sequence[str | None] | None) -> Sequence[str | None] | None:
    """The groups, or None where all of them are unknown."""
    return groups if groups is not None and any(group is not None for group in groups) else None


def _digests(side: Side) -> list[bytes] | None:
    return None if side.vectors is None else digests(side.vectors)


def _look(found: _Shared | _Near | None, names: tuple[Sequence[str], Sequence[str]]) -> Look:
    if found is None:
        return Look(None)
    queries = found.queries().tolist()
    some = [(names[0][query], names[1][found.example(query)]) for query in queries[:EXAMPLES]]
    return Look(len(queries), tuple(some))
