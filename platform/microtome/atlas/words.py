"""Which of very many vectors may be near a few: a vocabulary of two levels.

Each vector is put down under a word, the nearest of so many centres that about `PER_WORD` vectors
come under each. The words lie under topics, √words of them: to find the words nearest to a vector,
it is compared with the topics, and with the words under its nearest few topics (Nistér & Stewénius,
"Scalable recognition with a vocabulary tree", CVPR 2006). What that costs grows as √words, and what
is put down under the words found doesn't grow at all. Put down is only which vector it is: what is
found is compared exactly afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from microtome.atlas.mosaic import Vectors, cluster, nearest_of

PER_WORD = 100
TOPIC_SAMPLE = 256  # vectors per topic that take part in finding the topics,
WORD_SAMPLE = 30  # and per word, the words
ROUNDS = 6
TOPICS_OF_A_MEMBER = 3  # under which the word of a vector that is put down is looked for
BLOCK_ROWS = 16_384

Read = Callable[[NDArray[np.int64]], Vectors]
"""Gives the (N, D) unit vectors at N sorted places."""


@dataclass(frozen=True, slots=True)
class Words:
    """A vocabulary, and what is put down under its words.

    Attributes:
        topics: (T, D) float32 of unit length.
        topic_starts: (T + 1,) int64: the words under topic t are those from its start to the next.
        words: (W, D) float32 of unit length, topic by topic.
        word_starts: (W + 1,) int64: likewise what is put down under each word.
        members: (M,) int32: the places of the vectors, word by word.
    """

    topics: Vectors
    topic_starts: NDArray[np.int64]
    words: Vectors
    word_starts: NDArray[np.int64]
    members: NDArray[np.int32]

    @classmethod
    def of(cls, read: Read, count: int) -> Self:
        """A vocabulary for so many vectors, at least one, with all of them put down.

        Args:
            read: the vectors.
            count: how many there are.
        """
        wanted = max(1, round(count / PER_WORD))
        amount = max(1, round(np.sqrt(wanted)))
        topics = cluster(read(_spread(count, TOPIC_SAMPLE * amount)), amount, ROUNDS)
        sample = read(_spread(count, WORD_SAMPLE * wanted))
        own = nearest_of(sample, topics)[0]
        lists = []
        for number, topic in enumerate(topics):
            members = sample[own == number]
            share = max(1, round(wanted * len(members) / len(sample)))
            lists.append(cluster(members, share, ROUNDS) if len(members) else topic[None])
        starts = _starts([len(words) for words in lists])
        bare = cls(
            topics, starts, np.concatenate(lists), np.zeros(1, np.int64), np.empty(0, np.int32)
        )
        return bare.holding(read, count)

    def holding(self, read: Read, count: int) -> Self:
        """The same words, with so many vectors put down under them."""
        places = np.arange(count)
        blocks = (read(places[i : i + BLOCK_ROWS]) for i in range(0, len(places), BLOCK_ROWS))
        own = np.concatenate([self.nearest(b, 1, TOPICS_OF_A_MEMBER)[0][:, 0] for b in blocks])
        starts = _starts(np.bincount(own, minlength=len(self.words)).tolist())
        by_word = np.argsort(own, kind="stable").astype(np.int32)
        return type(self)(self.topics, self.topic_starts, self.words, starts, by_word)

    def nearest(
        self, vectors: Vectors, count: int, topics: int
    ) -> tuple[NDArray[np.int64], Vectors]:
        """The words nearest to each of (Q, D) unit vectors, of those under its nearest topics.

        Returns:
            (Q, count) numbers of words, nearest first, and their cosines; where there are no more,
            −1 and −∞.
        """
        scores = vectors @ self.topics.T
        asked = _best(scores, min(topics, len(self.topics)))
        sizes = np.diff(self.topic_starts)[asked]
        firsts = np.cumsum(sizes, axis=1) - sizes  # of each topic's words, in a row of all
        table = np.full((len(vectors), max(count, sizes.sum(axis=1).max())), -np.inf, np.float32)
        for topic, asking, slots in _by_topic(asked):
            first, last = self.topic_starts[topic : topic + 2].tolist()
            columns = firsts[asking, slots][:, None] + np.arange(last - first)
            table[asking[:, None], columns] = vectors[asking] @ self.words[first:last].T
        best = _best(table, count)
        cosines = np.take_along_axis(table, best, axis=1)
        order = np.argsort(-cosines, axis=1, kind="stable")
        best, cosines = np.take_along_axis(best, order, 1), np.take_along_axis(cosines, order, 1)
        slots = (best[:, :, None] >= firsts[:, None, :]).sum(axis=2) - 1
        begins = np.take_along_axis(self.topic_starts[asked] - firsts, slots, axis=1)
        return np.where(np.isfinite(cosines), begins + best, -1), cosines

    def members_near(self, words: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Which vectors are put down under some words.

        Args:
            words: (N,) numbers, nearest first.

        Returns:
            Their places, and for each the place in `words` of the one under which it is, ascending.
        """
        held = [self.members[self.word_starts[w] : self.word_starts[w + 1]] for w in words.tolist()]
        places = np.repeat(np.arange(len(held)), [len(members) for members in held])
        return np.concatenate([self.members[:0], *held]), places


def _by_topic(
    asked: NDArray[np.int64],
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """By topic, where it is among the (Q, topics) that are asked: rows and columns."""
    flat = asked.ravel()
    order = np.argsort(flat, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(flat[order])) + 1):
        yield int(flat[some[0]]), some // asked.shape[1], some % asked.shape[1]


def _best(scores: Vectors, count: int) -> NDArray[np.int64]:
    """(N, ≤ count) where the largest of each row are, in no order."""
    if scores.shape[1] <= count:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    best: NDArray[np.int64] = (
        scores.argmax(axis=1)[:, None]
        if count == 1
        else np.argpartition(-scores, count - 1, axis=1)[:, :count]
    )
    return best


def _spread(total: int, count: int) -> NDArray[np.int64]:
    """At most `count` of so many places, drawn at random, always the same; sorted."""
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).choice(total, count, replace=False))


def _starts(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
