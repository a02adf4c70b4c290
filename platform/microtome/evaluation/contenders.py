"""From what a user names to a collection and the vectors that are judged on it."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from microtome.config import check_whole
from microtome.errors import ImageUnreadable, SettingError
from microtome.evaluation.atlas_tiles import Wanted, read_tiles
from microtome.evaluation.collection import Collection, limited
from microtome.evaluation.embedding import default_cache, embed
from microtome.evaluation.evaluate import Contender, Track
from microtome.evaluation.grouping import regrouped
from microtome.evaluation.metrics import KS
from microtome.evaluation.peers import ColourHistogram, missing_peers, random_vectors
from microtome.evaluation.planning import check_ks, planned
from microtome.evaluation.protocols import Protocol
from microtome.evaluation.sources import read_images
from microtome.evaluation.vectors_file import read_vectors
from microtome.evaluation.views import View
from microtome.models.card import ModelCard
from microtome.models.encoder import DEFAULT_OPTIONS, Encoder, EncoderOptions
from microtome.models.registry import FILE_MARK, TIMM_PREFIX, load_encoder, shipped_cards

DEFAULT_MODEL = "tissue"
ATLAS = "atlas"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be judged on what.

    Attributes:
        protocol: who asks whom.
        data: folder, URI or `KIND:PATH`; of an atlas `URI#COLUMN`.
        vectors: file or folder of vectors, instead of data and models.
        labels: table of labels for vectors in HDF5.
        models: as `--model` names them; none for the one that ships, or the atlas's only one.
        group: column or pattern, see `grouping.regrouped`.
        peers: whether peers stand beside them.
        limit: most images, drawn; None for all.
        ks: how many neighbours the metrics look at.
        seed: of draws and random vectors.
        cache: folder where vectors of images are kept.
        options: how models run.

    Raises:
        SettingError: neither data nor vectors, or both; groups that the protocol can't heed; k,
            seed or limit is none.
    """

    protocol: Protocol
    data: str | None = None
    vectors: str | None = None
    labels: str | None = None
    models: tuple[str, ...] = ()
    group: str | None = None
    peers: bool = False
    limit: int | None = None
    ks: tuple[int, ...] = KS
    seed: int = 0
    cache: Path = field(default_factory=default_cache)
    options: EncoderOptions = DEFAULT_OPTIONS

    def __post_init__(self) -> None:
        if (self.data is None) == (self.vectors is None):
            raise SettingError(
                f"{self.protocol.name} needs either --data or --vectors",
                remedy="--data names labelled images (or atlas:URI#COLUMN), --vectors a file that "
                "holds vectors with their labels.",
            )
        if self.vectors is not None and self.models:
            raise SettingError("--vectors are judged as they are: they take no --model")
        if self.labels is not None and self.vectors is None:
            raise SettingError("--labels belong to --vectors")
        if self.group is not None and not self.protocol.takes_groups:
            raise SettingError(
                f"the protocol {self.protocol.name} deals images to folds, whoever they are of: it "
                "takes no --group",
                remedy=f"The protocol folder leaves groups out: folder --data "
                f"{self.protocol.kind}:PATH --group …",
            )
        check_ks(self.ks)
        check_whole("seed", self.seed, least=0)
        if self.limit is not None:
            check_whole("limit", self.limit, least=2)


def gather(asked: Asked, track: Track) -> tuple[Collection, list[Contender]]:
    """Read and embed.

    Returns:
        The collection, and the contenders: those asked for, then peers.

    Raises:
        MicrotomeError: whatever can't be read, loaded or embedded, each of its own type.
    """
    if asked.vectors is not None:
        return _given(asked, asked.vectors)
    if asked.protocol.kind == ATLAS:
        return _of_atlas(asked, track)
    return _of_images(asked, track)


def shown_name(name: str) -> str:
    """A model as tables name it: without the path of any machine."""
    if name.startswith(TIMM_PREFIX):
        network, mark, path = name.partition(FILE_MARK)
        return f"{network} ({posixpath.basename(path)})" if mark else name
    return name if name in shipped_cards() else posixpath.basename(name.rstrip("/")) or name


def _of_images(asked: Asked, track: Track) -> tuple[Collection, list[Contender]]:
    everything = read_images(asked.protocol, str(asked.data), asked.group)
    collection, _ = limited(everything, asked.limit, asked.seed)
    planned(asked.protocol, collection, asked.seed)  # refused before any work
    names = asked.models or (DEFAULT_MODEL,)
    encoders = [load_encoder(name, asked.options) for name in names]
    cards = [encoder.card for encoder in encoders]
    made = [
        _embedded(collection, shown, encoder, asked, track)
        for shown, encoder in zip(_shown(names, cards), encoders, strict=True)
    ]
    collection = collection.noted(*learnt_from(collection, cards))
    return _with_peers(collection, made, cards, asked, track)


def _of_atlas(asked: Asked, track: Track) -> tuple[Collection, list[Contender]]:
    wanted = Wanted(str(asked.data), asked.models, asked.group, asked.limit, asked.seed)
    tiles = read_tiles(wanted)
    planned(asked.protocol, tiles.collection, asked.seed)  # before peers look at pictures
    made = [
        Contender(name, tiles.vectors[card.model_id], card.model_id, _about(card, "stored vectors"))
        for name, card in zip(
            _shown([card.name for card in tiles.cards], tiles.cards), tiles.cards, strict=True
        )
    ]
    return _with_peers(tiles.collection, made, tiles.cards, asked, track)


def _given(asked: Asked, path: str) -> tuple[Collection, list[Contender]]:
    given = read_vectors(path, asked.labels, asked.group)
    everything = given.collection
    if asked.group is not None:
        everything = regrouped(everything, asked.group, given.columns)
    collection, places = limited(everything, asked.limit, asked.seed)
    contenders = [Contender(collection.name, given.vectors[places], about=given.about)]
    if asked.peers:
        contenders.append(_random(len(collection), asked.seed))
        collection = collection.noted("no colour histogram among the peers: there are no pictures")
    return collection, contenders


def _embedded(
    collection: Collection, name: str, encoder: Encoder, asked: Asked, track: Track
) -> Contender:
    made = embed(collection, encoder, asked.cache, track(name, len(collection)))
    card = encoder.card
    about = _about(card, str(View.of(card, collection.mpp)))
    if card.mpp is not None and collection.mpp is None:
        about += f"; it was made for {card.mpp:g} µm per pixel, nobody says what the images have"
    return Contender(name, made.vectors, card.model_id, about, made.hashes)


def _about(card: ModelCard, seen: str) -> str:
    return f"Model {card.model_id}, {card.dim} values, {card.licence}; {seen}"


def _with_peers(
    collection: Collection,
    made: list[Contender],
    cards: Sequence[ModelCard],
    asked: Asked,
    track: Track,
) -> tuple[Collection, list[Contender]]:
    if not asked.peers:
        return collection, made
    peers = [_random(len(collection), asked.seed)]
    notes = list(missing_peers(cards))
    histogram = ColourHistogram()
    try:
        of_colour = _embedded(collection, histogram.card.name, histogram, asked, track)
        peers.insert(0, replace(of_colour, peer=True))
    except ImageUnreadable as error:  # an atlas's slides may be out of reach; its vectors aren't
        notes.append(f"no colour histogram among the peers: {error.message}")
    return collection.noted(*notes), [*made, *peers]


def _random(count: int, seed: int) -> Contender:
    vectors = random_vectors(count, seed)
    return Contender("random vectors", vectors, about="Chance, drawn from the seed", peer=True)


def _shown(names: Sequence[str], cards: Sequence[ModelCard]) -> list[str]:
    """Names for tables, told apart by ids where two are alike.

    Raises:
        SettingError: one model was named twice.
    """
    ids = Counter(card.model_id for card in cards)
    if twice := [card.name for card in cards if ids[card.model_id] > 1]:
        raise SettingError(f"{shown_name(twice[0])} was named twice, or under two names")
    shown = [shown_name(name) for name in names]
    return [
        f"{name} {card.model_id}" if shown.count(name) > 1 else name
        for name, card in zip(shown, cards, strict=True)
    ]


def learnt_from(collection: Collection, cards: Sequence[ModelCard]) -> list[str]:
    """Models whose card says that they were fitted to a set of this name."""
    return [
        f"{shown_name(card.name)} was fitted to a set called {collection.name}: of images that it "
        "learnt from these figures say nothing"
        for card in cards
        if f"{collection.name}: " in card.training_data  # as `microtome train` writes it
    ]
