"""The server of the test run, asked through a further ingress that wants tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
from ray import serve

from microtome_serve.access import AuthSettings
from microtome_serve.filters import Condition
from microtome_serve.ingress import Ingress
from microtome_serve.limits import Limits
from microtome_serve.settings import ServeSettings
from microtome_serve.tokens import Role, TokenBook, Wanted
from support.serving import SMALL, answering
from support.waiting import until

NAME = "guarded"
BEHIND = {
    "search": "SearchReplica",
    "pictures": "Pictures",
    "rollout": "Rollout",
    "meter": "Meter",
}
"""What an ingress asks, by the names that `application` gives."""
LIMITS = Limits(upload_bytes=300_000, body_bytes=100_000, body_s=5.0, deadline_s=60.0)


@dataclass(frozen=True)
class Guarded:
    """A server that wants tokens.

    Attributes:
        url: of the server.
        tokens: its file.
    """

    url: str
    tokens: str

    def token(self, name: str, role: Role = "reader", rows: Sequence[Condition] = ()) -> str:
        """A new token that the server knows, which it does within a second."""
        _, token = TokenBook(self.tokens).make(Wanted(name, role, tuple(rows)))
        with self.client(token) as client:
            until(lambda: client.get("/v1/slides?limit=1").is_success)
        return token

    @contextmanager
    def client(self, token: str | None) -> Iterator[httpx.Client]:
        """Asks the server with a token, or with none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=self.url, headers=headers, timeout=60.0) as client:
            yield client


def guarded_ingress(settings: ServeSettings, url: str, tokens: str) -> Guarded:
    """A further ingress before the deployments of the app `microtome`, as long as they are."""
    TokenBook(tokens).make(Wanted("the first"))  # without a file nobody is let in
    settings = replace(settings, auth=AuthSettings(tokens=tokens), limits=LIMITS)
    behind = {
        name: serve.get_deployment_handle(deployment, "microtome")
        for name, deployment in BEHIND.items()
    }
    ingress = serve.deployment(Ingress).options(name="Ingress", **SMALL.options())
    serve.run(ingress.bind(settings, **behind), name=NAME, route_prefix=f"/{NAME}")
    return Guarded(answering(f"{url}/{NAME}"), tokens)
