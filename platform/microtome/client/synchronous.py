"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
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
from microtome.client.trying import Outcome, Patience, Tries
from microtome.errors import MicrotomeError

T = TypeVar("T")


class Client(Server):
    """Asks a Microtome server.

        with Client("http://localhost:8000") as client:
            answer = client.search_image("crop.png", k=5)

    Every method raises what the library itself would raise (`TileNotFound`, `FilterInvalid`, …),
    and `ServerError` where the server isn't there, is busy or fails. Safe to use from threads.

    Args:
        server: its address.
        token: a token of it; else that of the variable MICROTOME_TOKEN, else none.
        patience: how long to try.
    """

    def __init__(
        self, server: str, token: str | None = None, *, patience: Patience = PATIENT
    ) -> None:
        super().__init__(server, token, patience)
        self._http = httpx.Client(**self._options())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, call: Call[T], patience: Patience | None = None) -> T:
        """Send any call of `calls`; tried again where that may help."""
        tries = self._tries(patience)
        while True:
            try:
                outcome: Outcome = self._sent(call.request(self._http, tries.left_s), tries)
            except httpx.TransportError as error:
                outcome = error
            wait_s = tries.after(outcome)
            if wait_s is None and isinstance(outcome, httpx.Response):
                return call.read(outcome)
            time.sleep(wait_s or 0.0)

    def _sent(self, request: httpx.Request, tries: Tries) -> httpx.Response:
        """The whole answer; httpx alone would wait as long for each piece of it."""
        answer = self._http.send(request, stream=True)
        parts = []
        with closing(answer):
            for part in answer.iter_raw():
                parts.append(part)
                if tries.is_late:
                    raise httpx.ReadTimeout("the answer comes too slowly", request=request)
        return httpx.Response(
            answer.status_code, headers=answer.headers, content=b"".join(parts), request=request
        )

    def search_image(self, image: Image, **options: Unpack[SearchOptions]) -> Answer:
        """What looks like a picture."""
        return self.ask(calls.search_image([image], options))[0]

    def search_tile(self, tile_id: str, **options: Unpack[SearchOptions]) -> Answer:
        """What looks like a tile of the atlas."""
        return self.search_many([calls.by_tile(tile_id)], **options)[0]

    def search_region(self, slide_id: str, box: Box, **options: Unpack[SearchOptions]) -> Answer:
        """What looks like a rectangle of a slide: x, y, width and height in level-0 px."""
        return self.search_many([calls.by_region(slide_id, box)], **options)[0]

    def search_polygon(
        self, slide_id: str, corners: Corners, **options: Unpack[SearchOptions]
    ) -> Answer:
        """What looks like a drawn region of a slide: regions, unless told otherwise."""
        return self.search_many([calls.by_polygon(slide_id, corners)], **options)[0]

    def search_slide(self, slide_id: str, **options: Unpack[SearchOptions]) -> Answer:
        """What looks like a slide: slides, unless another level is asked for."""
        return self.search_many([calls.by_slide(slide_id)], **options)[0]

    def search_case(self, case_id: str, **options: Unpack[SearchOptions]) -> Answer:
        """What looks like a case: cases, unless another level is asked for."""
        return self.search_many([calls.by_case(case_id)], **options)[0]

    def search_vector(self, vectors: Vectors, **options: Unpack[SearchOptions]) -> Answer:
        """What lies nearest to vectors, the rows of any array, made by the atlas's model."""
        return self.search_many([calls.by_vector(vectors)], **options)[0]

    def search_many(
        self, queries: Sequence[Mapping[str, Any]], **options: Unpack[SearchOptions]
    ) -> tuple[Answer, ...]:
        """An answer per query (`calls.by_tile(…)` and its like): quicker than one by one."""
        return self.ask(calls.search(queries, options))

    def embed(
        self, images: Sequence[Image], query_mpp: float | None = None, model: str | None = None
    ) -> Embedded:
        """Vectors of pictures, as a search would make them."""
        return self.ask(calls.embed(images, query_mpp, model))

    def slides(
        self, limit: int = 100, cursor: str | None = None, conditions: Sequence[Condition] = ()
    ) -> SlidePage:
        """A page of the slides there are."""
        return self.ask(calls.slides(limit, cursor, conditions))

    def slide(self, slide_id: str) -> Slide:
        """What is known of a slide."""
        return self.ask(calls.slide(slide_id))

    def thumbnail(self, slide_id: str) -> Picture:
        """A small JPEG of a slide."""
        return self.ask(calls.thumbnail(slide_id))

    def tile(self, tile_id: str) -> TileHit:
        """What is known of a tile."""
        return self.ask(calls.tile(tile_id))

    def tile_picture(self, tile_id: str, form: str = "jpeg", size: int | None = None) -> Picture:
        """A tile as a jpeg, png or webp, as the model saw it or with `size` px a side."""
        return self.ask(calls.tile_picture(tile_id, form, size))

    def atlas(self) -> AtlasFacts:
        """What the atlas holds."""
        return self.ask(calls.atlas())

    def ready(self) -> bool:
        """Whether the server can answer now; asked once."""
        try:
            return self.ask(calls.ready(), ONCE)
        except MicrotomeError:
            return False
