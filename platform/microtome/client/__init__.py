"""The HTTP client of a Microtome server; of the library it needs errors and `rows`.

    call (what is sent, how it is read) → tries (when again) → answer

`calls`, `trying` and `answers` send nothing; `Client` and `AsyncClient` only send and wait.
"""

from microtome.client.asynchronous import AsyncClient
from microtome.client.calls import by_case, by_polygon, by_region, by_slide, by_tile, by_vector
from microtome.client.synchronous import Client
from microtome.client.trying import Patience

__all__ = [
    "AsyncClient",
    "Client",
    "Patience",
    "by_case",
    "by_polygon",
    "by_region",
    "by_slide",
    "by_tile",
    "by_vector",
]
