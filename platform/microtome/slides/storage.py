"""Where bytes lie: the one place that opens fsspec filesystems and explains their refusals.

S3 is set by the usual variables (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, AWS_REGION …),
never by the URI: a URI is shown, logged and stored, so it must hold no secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import fsspec

from microtome.errors import MicrotomeError, SettingError, SourceNotFound, SourceUnreadable

FileSystem = Any
"""An `fsspec.AbstractFileSystem`; fsspec carries no types."""

_LOCAL = ("file://", "local://")
_STORE_REMEDY = (
    "Check the bucket's name, the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "AWS_PROFILE) and AWS_ENDPOINT_URL"
)


def is_remote(uri: str) -> bool:
    """Whether `uri` names an object in a store rather than a path of this machine."""
    return "://" in uri and not uri.startswith(_LOCAL)


def local_path(uri: str) -> str:
    """Absolute path of a local `uri`; `~` and `file://` are understood."""
    for scheme in _LOCAL:
        uri = uri.removeprefix(scheme)
    return os.path.abspath(os.path.expanduser(uri))


def filesystem_of(uri: str, **options: Any) -> tuple[FileSystem, str]:
    """The filesystem that `uri` lies in, and its path there.

    Args:
        uri: local path or fsspec URI.
        options: of a remote filesystem, beside those set here.

    Raises:
        SettingError: the URI holds a secret, or its protocol is unknown or not installed.
    """
    if not is_remote(uri):
        return fsspec.filesystem("file"), local_path(uri)
    refuse_secrets(uri)
    protocol = uri.split("://", 1)[0]
    try:
        # Listings are asked for afresh: a long-lived process must see new slides.
        options = _options(protocol) | options
        filesystem = fsspec.filesystem(protocol, use_listings_cache=False, **options)
    except (ValueError, ImportError):
        raise SettingError(
            f"{uri}: no reader for {protocol}:// is installed",
            remedy="s3:// works as it is; other stores need their fsspec package (gcsfs, adlfs …).",
        ) from None
    return filesystem, filesystem._strip_protocol(uri)


def lies_at(uri: str) -> bool:
    """Whether anything lies at `uri`; where a disk or a store won't say, it is taken to be so."""
    filesystem, path = filesystem_of(uri)
    try:
        filesystem.info(path)
    except store_errors() as error:
        return not isinstance(error, FileNotFoundError)
    return True


def refuse_secrets(uri: str) -> None:
    """Raise `SettingError`, without repeating the URI, if it holds credentials or a signature."""
    scheme, _, rest = uri.partition("://")
    # abfs://container@account is a place; a password stands behind a colon
    user, _, _ = rest.split("/", 1)[0].rpartition("@")
    if ":" in user or (scheme in {"http", "https"} and urlsplit(uri).query):
        raise SettingError(
            f"a {scheme}:// URI holds credentials or a signature",
            remedy="Give the URI without them, and the credentials by environment variables or a "
            "profile.",
        )


@contextmanager
def explained(
    shown: str,
    *,
    missing: type[MicrotomeError] = SourceNotFound,
    refused: type[MicrotomeError] = SourceUnreadable,
) -> Iterator[None]:
    """Turn a filesystem's errors into ours; the store's own text is left out, it may hold secrets.

    Args:
        shown: the input as its user named it.
        missing: raised where nothing lies at the path.
        refused: raised for anything else the filesystem or the store says.
    """
    try:
        yield
    except store_errors() as error:
        if isinstance(error, FileNotFoundError) and store_reason(error) != "NoSuchBucket":
            raise missing(f"nothing lies at {shown}", remedy="Check the spelling.") from None
        remedy = f"{_STORE_REMEDY}." if is_remote(shown) else "Check the file's permissions."
        raise refused(f"{shown} can't be read: {store_reason(error)}", remedy=remedy) from None


def _options(protocol: str) -> dict[str, Any]:
    """What s3fs doesn't take from the environment, or would keep from an earlier environment."""
    if protocol not in {"s3", "s3a"}:
        return {}
    options: dict[str, Any] = {}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        options["endpoint_url"] = endpoint
    if region := os.environ.get("AWS_REGION"):
        options["client_kwargs"] = {"region_name": region}
    return options


def store_errors() -> tuple[type[Exception], ...]:
    """Every error a filesystem raises on purpose; asked for only once one was raised."""
    from botocore.exceptions import BotoCoreError, ClientError

    return OSError, BotoCoreError, ClientError


def store_reason(error: Exception) -> str:
    """A short reason that can't hold a secret: the store's code, the system's words, or a name."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", "the store refused"))
    if isinstance(error, PermissionError) and error.errno is None:
        return "access denied"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return type(error).__name__
