"""`Ingress`: the deployment that speaks HTTP; it holds neither model nor atlas."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from microtome import __version__
from microtome_serve import (
    access,
    audit,
    guards,
    problems,
    routes_atlas,
    routes_embed,
    routes_metrics,
    routes_pictures,
    routes_rollout,
    routes_search,
    routes_slides,
)
from microtome_serve.calling import Calls
from microtome_serve.door import Door, Entered
from microtome_serve.graph import Graph
from microtome_serve.meter import report_to_meter
from microtome_serve.settings import ServeSettings

DESCRIPTION: Final = """
Finds tissue that looks alike in an archive of whole-slide images.

Ask `/v1/search` with a tile, a region, a slide, a case or vectors, `/v1/search/image` with a
picture. What a token may not see isn't there for it. Refusals are problem documents (RFC 9457).
"""

ROUTES: Final = (
    routes_atlas,
    routes_search,
    routes_embed,
    routes_rollout,
    routes_pictures,  # before slides: a slide's id is the rest of a path, whatever it ends with
    routes_slides,
    routes_metrics,
)


def build_api(graph: Graph, door: Door) -> FastAPI:
    """The HTTP interface of a graph, which requests enter by a door."""
    api = FastAPI(title="Microtome", version=__version__, description=DESCRIPTION)
    api.state.graph = graph
    for routes in ROUTES:
        api.include_router(routes.router)
    settings = graph.settings
    access.install(api, access.Gate(settings.auth, settings.limits, graph.search.columns.remote))
    routes_atlas.install(api, graph)
    problems.install(api)  # each lies outside of the one before
    guards.install(api, settings.limits)
    routes_metrics.install(api)
    api.add_middleware(Entered, door=door)
    audit.install(api, settings.audit)
    return api


@serve.ingress()
class Ingress:
    """Turns requests into calls of the graph."""

    def __init__(self, settings: ServeSettings, **behind: DeploymentHandle) -> None:
        self._graph = Graph(settings, **{name: Calls(one) for name, one in behind.items()})
        self._door = Door()
        report_to_meter()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Serve runs in each replica."""
        return build_api(self._graph, self._door)

    async def drain(self, timeout_s: float) -> bool:
        """Answer what is under way and refuse the rest; whether all of it was answered in time."""
        return await self._door.shut(timeout_s)
