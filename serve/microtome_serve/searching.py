"""`SearchReplica`: the deployment that holds the atlas and answers what looks alike.

Questions that need no picture come many at once and are searched together. The others, which read
slides, embed, compare whole slides or count tiles, have threads of their own, and may take half of
a replica's places at most: however many of them come, the quick ones find their way.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa
from ray import serve
from ray.serve.handle import DeploymentHandle

from microtome.errors import ModelMismatch, SettingError
from microtome.models.card import ModelCard
from microtome.search.query import TileQuery, VectorQuery
from microtome_serve.access import Access
from microtome_serve.asking import Ask, EmbedWanted
from microtome_serve.calling import Calls
from microtome_serve.engines import Answer, Engines
from microtome_serve.filters import row_columns
from microtome_serve.following import Followed
from microtome_serve.meter import report_to_meter
from microtome_serve.remote_encoder import RemoteEncoder
from microtome_serve.rollout import Following, Slot
from microtome_serve.settings import ServeSettings
from microtome_serve.shadow import Answered, Shadow
from microtome_serve.threads import Places, Threads, all_or_none, in_s

QUICK_THREADS: Final = 4
SLOW_THREADS: Final = 4
AT_ONCE: Final = 2
"""Slow questions of one request; the others of it wait for them."""

TOGETHER: Final = 32
SILENT_S: Final = 120.0  # for so long a store may keep the thread waiting that looks at the atlas


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its way.

    Attributes:
        access: who asks.
        ask: what.
        engines: what there was to ask when it came.
        until_s: by `time.monotonic`, how long it is waited for.
    """

    access: Access
    ask: Ask
    engines: Engines
    until_s: float

    @property
    def is_quick(self) -> bool:
        """Whether there is nothing to read, to embed or to count for it: it can go with others."""
        ask = self.ask
        counts = ask.site_columns and ask.spread is None and not isinstance(ask.query, VectorQuery)
        return ask.level == "tile" and isinstance(ask.query, TileQuery | VectorQuery) and not counts


class SearchReplica:
    """Searches one atlas."""

    def __init__(
        self,
        settings: ServeSettings,
        cards: Mapping[Slot, ModelCard],
        embedders: Mapping[Slot, DeploymentHandle],
        rollout: DeploymentHandle,
    ) -> None:
        self._encoders = {
            slot: RemoteEncoder(Calls(embedder), cards[slot], settings.limits.deadline_s)
            for slot, embedder in embedders.items()
        }
        make = partial(Engines, encoders=self._encoders, most_tiles=settings.limits.tiles)
        self._engines = Followed(settings.atlas, make)
        self._following = Following(Calls(rollout), settings)
        self._shadow = Shadow(self._following)
        report_to_meter()
        self._quick = Threads("quick", QUICK_THREADS)
        self._slow = Threads("slow", SLOW_THREADS)
        self._slow_places = Places(max(1, settings.search.max_ongoing // 2))

    async def check_health(self) -> None:
        """A replica is ill that doesn't look at its atlas any more; a lost atlas is no illness."""
        if self._engines.silent_s > SILENT_S:
            raise RuntimeError("the atlas wasn't looked at for minutes")

    async def ready(self, slot: Slot | None = None) -> None:
        """Return once questions can be answered, by the model that answers or the one named.

        Raises:
            AtlasError: the atlas can't be read.
            ModelMismatch: it holds no vectors of the model.
            ModelReplaced: the embedder has another one.
            SettingError: there is no candidate.
        """
        engines, slot = self._engines.current(), slot or self._following.choice.answers
        if slot not in self._encoders:
            raise SettingError("there is no candidate to roll out")
        encoder = self._encoders[slot]
        await encoder.ready()
        if encoder.card.model_id not in engines.atlas.models:
            raise ModelMismatch(f"the atlas holds no vectors of the model {encoder.card.model_id}")

    async def models(self) -> dict[str, dict[str, str]]:
        """Id and name of each model that is served, by its slot."""
        return {
            slot: {"model_id": one.card.model_id, "name": one.card.name}
            for slot, one in self._encoders.items()
        }

    async def search(self, access: Access, asks: tuple[Ask, ...], left_s: float) -> bytes:
        """What looks like each of several: a JSON list, see `schemas.Answer`.

        Args:
            access: who asks.
            asks: what; the first that can't be answered ends the others.
            left_s: seconds for which the answers are waited for.

        Raises:
            Overloaded: there are too many slow questions already.
            As `Engines.answer`.
        """
        engines, until_s = self._engines.current(), in_s(left_s)
        asked = [Asked(access, ask, engines, until_s) for ask in asks]
        in_turn = asyncio.Semaphore(AT_ONCE)
        answering = (self._answer(one, in_turn) for one in asked)
        if all(one.is_quick for one in asked):
            return _json(await all_or_none(answering))
        with self._slow_places.taken():
            return _json(await all_or_none(answering))

    async def embed(self, wanted: EmbedWanted, left_s: float) -> bytes:
        """Vectors of pictures: JSON, see `schemas.EmbedAnswer`.

        Raises:
            Overloaded: there are too many slow questions already.
            As `Engines.embed`.
        """
        engines, answers = self._engines.current(), self._following.choice.answers
        with self._slow_places.taken():
            embedded = self._slow.run(lambda: engines.embed(wanted, answers), in_s(left_s))
            return _json(await embedded)

    async def columns(self) -> pa.Schema:
        """The columns that a token's rows may be limited by."""
        atlas = self._engines.current().atlas
        return await self._quick.run(lambda: row_columns(atlas.tiles.schema, atlas.slides.schema))

    async def facts(self, access: Access) -> dict[str, Any]:
        """The atlas as they see it, see `Facts.of`."""
        engines = self._engines.current()
        answering = self._encoders[self._following.choice.answers].card.model_id
        return await self._quick.run(lambda: engines.facts.of(access) | {"answers": answering})

    async def _answer(self, asked: Asked, in_turn: asyncio.Semaphore) -> Answer:
        started = time.monotonic()
        if asked.is_quick:
            found: Answer | Exception = await self._together(asked)
            if isinstance(found, Exception):
                raise found
            answer = found
        else:
            async with in_turn:
                answer = await self._answer_slowly(asked)
        took_s = time.monotonic() - started
        self._shadow.maybe(asked.engines, Answered(asked.access, asked.ask, answer, took_s))
        return answer

    async def _answer_slowly(self, asked: Asked) -> Answer:
        answers = self._following.choice.answers
        return await self._slow.run(
            lambda: asked.engines.answer(asked.access, asked.ask, answers), asked.until_s
        )

    @serve.batch(  # type: ignore[untyped-decorator]
        max_batch_size=TOGETHER, batch_wait_timeout_s=0.0, max_concurrent_batches=2
    )
    async def _together(self, asked: list[Asked]) -> list[Answer | Exception]:
        """Whatever came while the last batch was searched is the next one."""
        engines, answers = asked[-1].engines, self._following.choice.answers
        questions = [(one.access, one.ask, answers) for one in asked]
        until_s = max(one.until_s for one in asked)
        return await self._quick.run(lambda: engines.answer_together(questions), until_s)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
