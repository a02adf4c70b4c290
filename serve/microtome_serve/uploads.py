"""Uploaded pictures as queries; nothing of them is decoded here."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import UploadFile

from microtome.errors import RequestTooLarge
from microtome.search.picture import check_header
from microtome.search.query import ImageQuery
from microtome_serve.limits import Limits


async def image_queries(images: Sequence[UploadFile], limits: Limits) -> list[ImageQuery]:
    """One query per picture, named by its place: a client's file name is never a place here.

    Raises:
        RequestTooLarge: too many pictures.
        QueryUnreadable: by its first bytes one is no picture, several, or of too many pixels.
    """
    if len(images) > limits.images:
        raise RequestTooLarge(
            f"{len(images)} pictures are more than {limits.images}", remedy="Ask several times."
        )
    queries = [
        ImageQuery(f"picture {place}", data=await image.read())
        for place, image in enumerate(images, start=1)
    ]
    for query in queries:
        check_header(query, limits.pixels)
    return queries
