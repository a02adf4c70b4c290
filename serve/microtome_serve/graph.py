"""What the routes ask: the handles of the deployments behind the ingress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from ray.serve.handle import DeploymentHandle

from microtome_serve.settings import ServeSettings


@dataclass(frozen=True, slots=True)
class Graph:
    """The deployments behind the ingress.

    Attributes:
        settings: the server's.
        search: handle of `SearchReplica`.
        embedder: handle of `Embedder`.
    """

    settings: ServeSettings
    search: DeploymentHandle
    embedder: DeploymentHandle


def graph_of(request: Request) -> Graph:
    """The graph behind the API that a request came to."""
    graph: Graph = request.app.state.graph
    return graph


Served = Annotated[Graph, Depends(graph_of)]
"""A route's parameter: the graph."""
