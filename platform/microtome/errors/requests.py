"""Why a server does not answer, and what its client makes of it."""

from __future__ import annotations

from microtome.errors.root import MicrotomeError


class RequestError(MicrotomeError):
    """A request that a server doesn't answer, whatever it asks."""

    cause = "request"


class TokenRefused(RequestError):
    """No token, or one that is unknown, malformed, expired or revoked: the answer is the same."""

    cause = "token-refused"


class NotAllowed(RequestError):
    """The token is good, but its role doesn't reach that far."""

    cause = "not-allowed"


class AccessUnavailable(RequestError):
    """Who may ask can't be looked up: nobody may, until it can."""

    cause = "access-unavailable"


class RateExceeded(RequestError):
    """More requests than the token may send; `retry_after_s` says when the next one may come."""

    cause = "rate-exceeded"

    def __init__(self, message: str, *, remedy: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class Overloaded(RequestError):
    """The server has more to do than it can; what it can't take it refuses at once."""

    cause = "overloaded"


class RequestTooLarge(RequestError):
    """More bytes, pixels or parts than the server takes."""

    cause = "too-large"


class RequestTooSlow(RequestError):
    """The body of a request didn't arrive in time."""

    cause = "too-slow"


class DeadlinePassed(RequestError):
    """The answer wasn't ready in time; the work on it was given up."""

    cause = "deadline-passed"


class ProcessLost(RequestError):
    """Each process that was given the request died of something, so it isn't asked again."""

    cause = "process-lost"


class ServerError(MicrotomeError):
    """A server was asked, and there is no answer that can be used."""

    cause = "server"


class ServerUnreachable(ServerError):
    """Nobody answers at the server's address, or not in time."""

    cause = "server-unreachable"


class ServerBusy(ServerError):
    """The server has more to do than it can, also after several tries."""

    cause = "overloaded"


class ServerFailed(ServerError):
    """The server couldn't do what it should; its log says why."""

    cause = "server-failed"


class ServerRefused(ServerError):
    """The server doesn't take the request, for a reason that has no error of its own here."""

    cause = "server-refused"


class AnswerUnreadable(ServerError):
    """What was answered is no answer of a Microtome server, or of another version."""

    cause = "answer-unreadable"
