"""Calling a deployment: what is given up is cancelled, what died with its process is asked again.

Every method of the graph only reads, so it may be asked twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
)
from ray.serve.handle import DeploymentHandle

from microtome.errors import DeadlinePassed, Overloaded, ProcessLost

LOST: Final = (ActorDiedError, ActorUnavailableError)
"""What is raised for a call whose replica's process died meanwhile."""
TRIES: Final = 3  # a replica that took a dead one's place may be hit by what killed the first


class Calls:
    """A deployment's methods: `await calls.method.remote(…)`, or from a thread `.result(…)`.

    A method that isn't known is an error of the deployment, as with the handle itself.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    def __getattr__(self, method: str) -> Call:
        if method.startswith("_"):
            raise AttributeError(method)
        return Call(getattr(self._handle, method))

    def __reduce__(self) -> tuple[type[Calls], tuple[DeploymentHandle]]:
        return Calls, (self._handle,)


class Call:
    """One method of a deployment."""

    def __init__(self, method: DeploymentHandle) -> None:
        self._method = method

    async def remote(self, *args: Any) -> Any:
        """Its answer; whoever stops waiting for it ends the work on it.

        Raises:
            RayTaskError: what the method raised.
            Overloaded: too many wait already.
            ProcessLost: every process that was asked died.
        """
        for left in reversed(range(TRIES)):
            response = self._method.remote(*args)
            try:
                with _refusals():
                    return await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            except LOST:
                if not left:
                    raise _lost() from None
        raise AssertionError  # pragma: no cover - the last try returns or raises

    def result(self, *args: Any, timeout_s: float) -> Any:
        """As `remote`, from a thread without a loop.

        Raises:
            DeadlinePassed: no answer came in time.
        """
        for left in reversed(range(TRIES)):
            response = self._method.remote(*args)
            try:
                with _refusals():
                    return response.result(timeout_s=timeout_s)
            except TimeoutError:
                response.cancel()
                raise DeadlinePassed(
                    "the model didn't answer in time", remedy="Ask for less, or again later."
                ) from None
            except LOST:
                if not left:
                    raise _lost() from None
        raise AssertionError  # pragma: no cover - the last try returns or raises


def _lost() -> ProcessLost:
    """No client should ask so again: what ended so many processes would end more."""
    return ProcessLost(
        f"{TRIES} processes of the server ended while they worked on it",
        remedy="Tell whoever runs this server, with the request's id.",
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Tell Serve's refusals in our own words: its own, Serve answers as plain text."""
    try:
        yield
    except BackPressureError:
        raise Overloaded(
            "the server has more to do than it can", remedy="Ask again shortly."
        ) from None
    except DeploymentUnavailableError as error:
        raise RayServeException(error.message) from None
