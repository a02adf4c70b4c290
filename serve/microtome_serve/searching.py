"""`SearchReplica`: the deployment that holds the atlas and answers what looks alike.

Questions that need no picture come many at once and are searched together; the others, which read
slides and embed, each have a thread.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import pyarrow as pa
from ray import serve
from ray.serve.handle import DeploymentHandle

from microtome.errors import ModelMismatch, SettingError
from microtome.search.query import ImageQuery, TileQuery, VectorQuery
from microtome_serve.access import Access
from microtome_serve.asking import Ask
from microtome_serve.calling import Calls
from microtome_serve.engines import Answer, Engines
from microtome_serve.filters import row_columns
from microtome_serve.following import Followed
from microtome_serve.meter import report_to_meter
from microtome_serve.remote_encoder import RemoteEncoder
from microtome_serve.rollout import Following, Slot
from microtome_serve.settings import ServeSettings
from microtome_serve.shadow import Answered, Shadow

THREADS: Final = 8
TOGETHER: Final = 32
SILENT_S: Final = 120.0  # for so long a store may keep the thread waiting that looks at the atlas

T = TypeVar("T")


class SearchReplica:
    """Searches one atlas."""

    def __init__(
        self,
        settings: ServeSettings,
        embedders: Mapping[Slot, DeploymentHandle],
        rollout: DeploymentHandle,
    ) -> None:
        self._encoders = {
            name: RemoteEncoder(Calls(embedder), settings.limits.deadline_s)
            for name, embedder in embedders.items()
        }
        self._engines = Followed(settings.atlas, partial(Engines, encoders=self._encoders))
        self._following = Following(
            Calls(rollout), settings.shadow if "candidate" in embedders else 0.0
        )
        self._shadow = Shadow(self._following)
        report_to_meter()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="search")

    async def check_health(self) -> None:
        """A replica is ill that doesn't look at its atlas any more; a lost atlas is no illness."""
        if self._engines.silent_s > SILENT_S:
            raise RuntimeError("the atlas wasn't looked at for minutes")

    async def ready(self, slot: Slot | None = None) -> None:
        """Return once questions can be answered, by the model that answers or the one named.

        Raises:
            AtlasError: the atlas can't be read.
            ModelMismatch: it holds no vectors of the model.
            DeadlinePassed: the model isn't there.
            SettingError: there is no candidate.
        """
        engines, slot = self._engines.current(), slot or self._following.choice.answers
        if slot not in self._encoders:
            raise SettingError("there is no candidate to roll out")
        model_id = (await self._run(lambda: self._encoders[slot].card)).model_id
        if model_id not in engines.atlas.models:
            raise ModelMismatch(f"the atlas holds no vectors of the model {model_id}")

    async def models(self) -> dict[str, dict[str, str]]:
        """Id and name of each model that is served, by its slot."""
        cards = await self._run(lambda: {slot: one.card for slot, one in self._encoders.items()})
        return {
            slot: {"model_id": card.model_id, "name": card.name} for slot, card in cards.items()
        }

    async def search(self, access: Access, asks: tuple[Ask, ...]) -> bytes:
        """What looks like each of several: a JSON list, see `schemas.Answer`.

        Raises:
            As `Engines.answer`.
        """
        answers = await asyncio.gather(*(self._answer(access, ask) for ask in asks))
        return _json(answers)

    async def embed(
        self, images: tuple[ImageQuery, ...], query_mpp: float | None, model: str | None
    ) -> bytes:
        """Vectors of pictures: JSON, see `schemas.EmbedAnswer`.

        Raises:
            As `Engines.embed`.
        """
        engines, answers = self._engines.current(), self._following.choice.answers
        return _json(await self._run(lambda: engines.embed(images, query_mpp, model, answers)))

    async def columns(self) -> pa.Schema:
        """The columns that a token's rows may be limited by."""
        atlas = self._engines.current().atlas
        return await self._run(lambda: row_columns(atlas.tiles.schema, atlas.slides.schema))

    async def facts(self, access: Access) -> dict[str, Any]:
        """The atlas as they see it, see `Facts.of`."""
        engines = self._engines.current()
        encoder = self._encoders[self._following.choice.answers]
        return await self._run(
            lambda: engines.facts.of(access) | {"answers": encoder.card.model_id}
        )

    async def _answer(self, access: Access, ask: Ask) -> Answer:
        engines, started = self._engines.current(), time.monotonic()
        if ask.level == "tile" and isinstance(ask.query, TileQuery | VectorQuery):
            found: Answer | Exception = await self._together((engines, access, ask))
            if isinstance(found, Exception):
                raise found
            answer = found
        else:
            answers = self._following.choice.answers
            answer = await self._run(lambda: engines.answer(access, ask, answers))
        self._shadow.maybe(engines, Answered(access, ask, answer, time.monotonic() - started))
        return answer

    @serve.batch(  # type: ignore[untyped-decorator]
        max_batch_size=TOGETHER, batch_wait_timeout_s=0.0, max_concurrent_batches=2
    )
    async def _together(self, asked: list[tuple[Engines, Access, Ask]]) -> list[Answer | Exception]:
        """Whatever came while the last batch was searched is the next one."""
        engines, answers = asked[-1][0], self._following.choice.answers
        questions = [(access, ask, answers) for _, access, ask in asked]
        return await self._run(lambda: engines.answer_together(questions))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
