"""Where the tables lie: a folder or an object store, and what a store's refusal means.

Credentials come from the environment of the process that opens a table (keys, AWS_PROFILE, a role),
never from a URI, and never travel between processes or into a message. An endpoint must stand in a
variable: Lance doesn't read it from `~/.aws/config`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from microtome.errors import AtlasWriteFailed, SettingError

T = TypeVar("T")
_FROM_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "aws_access_key_id",
    "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
    "AWS_SESSION_TOKEN": "aws_session_token",
    "AWS_DEFAULT_REGION": "aws_region",
    "AWS_REGION": "aws_region",
    "AWS_ENDPOINT_URL": "aws_endpoint",
    "AWS_ENDPOINT_URL_S3": "aws_endpoint",
}
"""AWS's variables and Lance's names for them; of two for one name the later wins."""

_DAMAGED, _GONE = "one of its files is damaged", "one of its files is gone"
_REASONS = {
    r"os error 28|No space left|os error 122|Disk quota": "the disk is full",
    r"os error 27|File too large": "the file grew past what the system allows",
    r"os error 13|Permission denied|os error 30|Read-only": "writing there is not permitted",
    r"os error 20|Not a directory": "a file stands where a folder should be",
    r"sufficient data|magic number|[Cc]orrupt|failed to decode|whole buffer|Invalid scalar value"
    r"|metadata range|invalid magic|outside file|metadata region|sliced Buffer|Flat buffer has"
    r"|not aligned to|[Ii]nvalid ?[Rr]ange|range was invalid|size is too small": _DAMAGED,
    r"Not found: .*\.lance/data/|NoSuchKey": _GONE,
    r"NoSuchBucket": "there is no such bucket",
    r"AccessDenied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch|\b403\b": (
        "the store refused the credentials"
    ),
    r"[Cc]onnection refused|error sending request|dns error|status code: 5\d\d": (
        "the store can't be reached"
    ),
    r"[Cc]ommit conflict|preempted": "another writer changed the atlas at the same moment",
}
_PASSING = "|".join(
    [
        r"error sending request|[Tt]imed? ?out|[Cc]onnection (reset|closed|refused)|SlowDown",
        r"HTTP error: request or response body error",
        r"status code: 5\d\d|Commit result .* is unknown",
        r"[Cc]ommit conflict|preempted|[Ii]ncompatible transaction|Too many concurrent writers",
        r"already exists",  # a table whose creation was not answered
    ]
)


WAITS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Before each further attempt of what may pass; Lance's own client repeats requests before that."""
STORE_ERRORS = (OSError, RuntimeError, ValueError)
"""What Lance raises where a store or a file fails it; `ValueError` also for a wrong request."""


def check_uri(uri: str) -> None:
    """Raise `SettingError` where an atlas's URI is empty or holds credentials."""
    if not uri:
        raise SettingError("the atlas needs a folder or a URI", remedy="Pass --atlas URI.")
    if "://" in uri and "@" in urlsplit(uri).netloc:
        raise SettingError(
            "the atlas's URI holds credentials",
            remedy="Name only bucket and path; give keys by AWS_ACCESS_KEY_ID and its like.",
        )


def location(uri: str) -> str:
    """The address that means the same in every process: local paths become absolute."""
    return uri.rstrip("/") if "://" in uri else str(Path(uri).expanduser().resolve())


def storage_options(uri: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Lance's storage options for a URI, from the usual AWS variables; empty for a folder."""
    if urlsplit(uri).scheme != "s3":
        return {}
    if bundle := environ.get("AWS_CA_BUNDLE"):
        os.environ.setdefault("SSL_CERT_FILE", bundle)  # where Lance looks for authorities
    options = {ours: environ[name] for name, ours in _FROM_ENVIRONMENT.items() if environ.get(name)}
    if endpoint := options.get("aws_endpoint"):
        # Stores that stand in for S3 rarely resolve bucket.host, and have no region of their own.
        options["aws_virtual_hosted_style_request"] = "false"
        options.setdefault("aws_region", "us-east-1")
        if endpoint.startswith("http://"):
            options["allow_http"] = "true"
    return options


def reason(error: Exception, uri: str) -> str:
    """Why a store refused, in a few words: no source lines of Lance, no path but the user's."""
    text = str(error)
    for pattern, words in _REASONS.items():
        if re.search(pattern, text):
            return words
    first = text.partition("\n")[0].partition(", /")[0]
    first = re.sub(r"^LanceError\(\w+\): ", "", first)
    return re.sub("/*" + re.escape(location(uri).lstrip("/")), lambda _: uri, first)


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed in a moment: the store stumbled, or a commit raced."""
    return bool(re.search(_PASSING, str(error)))


def is_damage(error: Exception) -> bool:
    """Whether a file itself is damaged or gone, rather than out of reach."""
    return reason(error, "") in {_DAMAGED, _GONE}


def patiently(attempt: Callable[[], T]) -> T:
    """What `attempt` returns once it succeeds; it is called again where that may help.

    Lance's client repeats most requests, but no listing whose answer was cut, for one.
    """
    for wait_s in WAITS_S:
        try:
            return attempt()
        except STORE_ERRORS as error:
            if not may_pass(error):
                raise
        time.sleep(wait_s)
    return attempt()


def write_failed(uri: str, what: str, error: Exception) -> AtlasWriteFailed:
    """A store's refusal to write, in a few words."""
    return AtlasWriteFailed(
        f"{what} could not be written to the atlas {uri}: {reason(error, uri)}",
        remedy="Nothing of it is visible; mend the store and run again to go on from there.",
    )


@contextmanager
def writing(uri: str, what: str) -> Iterator[None]:
    """Turn whatever a store says while `what` is written into `AtlasWriteFailed`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise write_failed(uri, what, error) from error
