"""What the routes ask: the deployments behind the ingress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from microtome_serve.calling import Calls
from microtome_serve.settings import ServeSettings


@dataclass(frozen=True, slots=True)
class Graph:
    """The deployments behind the ingress.

    Attributes:
        settings: the server's.
        search: `SearchReplica`.
        pictures: `Pictures`.
        rollout: `Rollout`.
        meter: `Meter`.
    """

    settings: ServeSettings
    search: Calls
    pictures: Calls
    rollout: Calls
    meter: Calls


async def graph_of(request: Request) -> Graph:
    """The graph behind the API that a request came to; not sync, or a thread would be asked."""
    graph: Graph = request.app.state.graph
    return graph


Served = Annotated[Graph, Depends(graph_of)]
"""A route's parameter: the graph."""
