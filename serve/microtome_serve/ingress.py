"""`Ingress`: the deployment that speaks HTTP; it holds neither model nor atlas."""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from microtome import __version__
from microtome_serve import problems, routes_atlas, routes_search
from microtome_serve.graph import Graph
from microtome_serve.settings import ServeSettings


def build_api(graph: Graph) -> FastAPI:
    """The HTTP interface of a graph."""
    api = FastAPI(title="Microtome", version=__version__)
    api.state.graph = graph
    for routes in (routes_atlas, routes_search):
        api.include_router(routes.router)
    problems.install(api)
    return api


@serve.deployment
@serve.ingress()
class Ingress:
    """Turns requests into calls of the graph."""

    def __init__(
        self, settings: ServeSettings, search: DeploymentHandle, embedder: DeploymentHandle
    ) -> None:
        self._graph = Graph(settings, search, embedder)

    def __serve_build_asgi_app__(self) -> FastAPI:  # noqa: PLW3201 - Serve's name for it
        """What Serve runs in each replica."""
        return build_api(self._graph)
