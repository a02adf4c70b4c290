"""`SearchReplica`: the deployment that holds the atlas and answers what looks alike.

Questions that need no picture come many at once and are searched together; the others, which read
slides and embed, each have a thread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import pyarrow as pa
from ray import serve
from ray.serve.handle import DeploymentHandle

from microtome.search.query import ImageQuery, TileQuery, VectorQuery
from microtome_serve.access import Access
from microtome_serve.asking import Ask
from microtome_serve.calling import Calls
from microtome_serve.engines import Answer, Engines
from microtome_serve.filters import row_columns
from microtome_serve.following import Followed
from microtome_serve.remote_encoder import RemoteEncoder
from microtome_serve.settings import ServeSettings

THREADS: Final = 8
TOGETHER: Final = 32
SILENT_S: Final = 120.0  # for so long a store may keep the thread waiting that looks at the atlas

T = TypeVar("T")


@serve.deployment
class SearchReplica:
    """Searches one atlas."""

    def __init__(self, settings: ServeSettings, embedder: DeploymentHandle) -> None:
        deadline_s = settings.limits.deadline_s
        encoders = {"model": RemoteEncoder(Calls(embedder), deadline_s)}
        self._engines = Followed(settings.atlas, partial(Engines, encoders=encoders))
        self._encoders = encoders
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="search")

    async def check_health(self) -> None:
        """A replica is ill that doesn't look at its atlas any more; a lost atlas is no illness."""
        if self._engines.silent_s > SILENT_S:
            raise RuntimeError("the atlas wasn't looked at for minutes")

    async def ready(self) -> None:
        """Return once questions can be answered.

        Raises:
            AtlasError: the atlas can't be read.
            DeadlinePassed: the model isn't there.
        """
        self._engines.current()
        await self._run(lambda: self._encoders["model"].card)

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
        engines = self._engines.current()
        return _json(await self._run(lambda: engines.embed(images, query_mpp, model, "model")))

    async def columns(self) -> pa.Schema:
        """The columns that a token's rows may be limited by."""
        atlas = self._engines.current().atlas
        return await self._run(lambda: row_columns(atlas.tiles.schema, atlas.slides.schema))

    async def facts(self, access: Access) -> dict[str, Any]:
        """The atlas as they see it, see `Facts.of`."""
        engines = self._engines.current()
        counted = await self._run(lambda: engines.facts.of(access))
        return counted | {"answers": self._encoders["model"].card.model_id}

    async def _answer(self, access: Access, ask: Ask) -> Answer:
        engines = self._engines.current()
        if ask.level == "tile" and isinstance(ask.query, TileQuery | VectorQuery):
            answer: Answer | Exception = await self._together((engines, access, ask))
            if isinstance(answer, Exception):
                raise answer
            return answer
        return await self._run(lambda: engines.answer(access, ask, "model"))

    @serve.batch(max_batch_size=TOGETHER, batch_wait_timeout_s=0.0, max_concurrent_batches=2)
    async def _together(self, asked: list[tuple[Engines, Access, Ask]]) -> list[Answer | Exception]:
        """Whatever came while the last batch was searched is the next one."""
        engines = asked[-1][0]
        return await self._run(
            lambda: engines.answer_together([(access, ask, "model") for _, access, ask in asked])
        )

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
