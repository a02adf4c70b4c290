"""`SearchReplica`: the deployment that holds the atlas and answers what looks alike."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ray import serve
from ray.serve.handle import DeploymentHandle

from microtome.atlas.atlas import Atlas
from microtome.search.query import Query
from microtome.search.result import SearchSettings
from microtome.search.searcher import Searcher
from microtome_serve.settings import ServeSettings

THREADS: Final = 8


@serve.deployment
class SearchReplica:
    """Searches one atlas."""

    def __init__(self, settings: ServeSettings, embedder: DeploymentHandle) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="search")
        self._searcher = Searcher(Atlas.open(settings.atlas))

    async def search(self, query: Query, settings: SearchSettings) -> dict[str, Any]:
        """What looks like a query."""
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._threads, self._searcher.search, query, settings)
        return result.to_json()
