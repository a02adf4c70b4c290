"""The client for asyncio: the methods of `Client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from microtome.client import calls
from microtome.client.answers import (
    Answer,
    AtlasFacts,
    Embedded,
    Picture,
    Slide,
    SlidePage,
    TileHit,
)
from microtome.client.calls import (
    Box,
    Call,
    Condition,
    Corners,
    Image,
    SearchOptions,
    Vectors,
)
from microtome.client.server import ONCE, PATIENT, Server
from microtome.client.trying import Outcome, Patience
from microtome.errors import MicrotomeError

T = TypeVar("T")


class AsyncClient(Server):
    """Asks a Microtome server; everything is as `Client` says.

    As in `async with AsyncClient("http://localhost:8000") as client: await client.ready()`.
    """

    def __init__(
        self, server: str, token: str | None = None, *, patience: Patience = PATIENT
    ) -> None:
        super().__init__(server, token, patience)
        self._http = httpx.AsyncClient(**self._options())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, call: Call[T], patience: Patience | None = None) -> T:
        """Send any call of `calls`; tried again where that may help."""
        tries = self._tries(patience)
        while True:
            try:
                async with asyncio.timeout(tries.left_s):
                    request = call.request(self._http, tries.left_s)
                    outcome: Outcome = await self._http.send(request)
            except TimeoutError:
                outcome = httpx.ReadTimeout("the answer comes too slowly")
            except httpx.TransportError as error:
                outcome = error
            wait_s = tries.after(outcome)
            if wait_s is None and isinstance(outcome, httpx.Response):
                return call.read(outcome)
            await asyncio.sleep(wait_s or 0.0)

    async def search_image(self, image: Image, **options: Unpack[SearchOptions]) -> Answer:
        """What looks like a picture."""
        return (await self.ask(calls.search_image([image], options)))[0]

    async def search_tile(self, tile_id: str, **options: Unpack[SearchOptions]) -> Answer:
        """What looks like a tile of the atlas."""
        return (await self.search_many([calls.by_tile(tile_id)], **options))[0]

    async def search_region(
        self, slide_id: str, box: Box, **options: Unpack[SearchOptions]
    ) -> Answer:
        """What looks like a rectangle of a slide: x, y, width and height in level-0 px."""
        return (await self.search_many([calls.by_region(slide_id, box)], **options))[0]

    async def search_polygon(
        self, slide_id: str, corners: Corners, **options: Unpack[SearchOptions]
    ) -> Answer:
        """What looks like a drawn region of a slide: regions, unless told otherwise."""
        return (await self.search_many([calls.by_polygon(slide_id, corners)], **options))[0]

    async def search_slide(self, slide_id: str, **options: Unpack[SearchOptions]) -> Answer:
        """What looks like a slide: slides, unless another level is asked for."""
        return (await self.search_many([calls.by_slide(slide_id)], **options))[0]

    async def search_case(self, case_id: str, **options: Unpack[SearchOptions]) -> Answer:
        """What looks like a case: cases, unless another level is asked for."""
        return (await self.search_many([calls.by_case(case_id)], **options))[0]

    async def search_vector(self, vectors: Vectors, **options: Unpack[SearchOptions]) -> Answer:
        """What lies nearest to vectors, the rows of any array, made by the atlas's model."""
        return (await self.search_many([calls.by_vector(vectors)], **options))[0]

    async def search_many(
        self, queries: Sequence[Mapping[str, Any]], **options: Unpack[SearchOptions]
    ) -> tuple[Answer, ...]:
        """An answer per query (`calls.by_tile(…)` and its like): quicker than one by one."""
        return await self.ask(calls.search(queries, options))

    async def embed(
        self, images: Sequence[Image], query_mpp: float | None = None, model: str | None = None
    ) -> Embedded:
        """Vectors of pictures, as a search would make them."""
        return await self.ask(calls.embed(images, query_mpp, model))

    async def slides(
        self, limit: int = 100, cursor: str | None = None, conditions: Sequence[Condition] = ()
    ) -> SlidePage:
        """A page of the slides there are."""
        return await self.ask(calls.slides(limit, cursor, conditions))

    async def slide(self, slide_id: str) -> Slide:
        """What is known of a slide."""
        return await self.ask(calls.slide(slide_id))

    async def thumbnail(self, slide_id: str) -> Picture:
        """A small JPEG of a slide."""
        return await self.ask(calls.thumbnail(slide_id))

    async def tile(self, tile_id: str) -> TileHit:
        """What is known of a tile."""
        return await self.ask(calls.tile(tile_id))

    async def tile_picture(
        self, tile_id: str, form: str = "jpeg", size: int | None = None
    ) -> Picture:
        """A tile as a jpeg, png or webp, as the model saw it or with `size` px a side."""
        return await self.ask(calls.tile_picture(tile_id, form, size))

    async def atlas(self) -> AtlasFacts:
        """What the atlas holds."""
        return await self.ask(calls.atlas())

    async def ready(self) -> bool:
        """Whether the server can answer now; asked once."""
        try:
            return await self.ask(calls.ready(), ONCE)
        except MicrotomeError:
            return False
