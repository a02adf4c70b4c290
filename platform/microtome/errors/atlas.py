"""What can be wrong with an atlas, and with what is asked of it."""

from __future__ import annotations

from microtome.errors.root import MicrotomeError


class AtlasError(MicrotomeError):
    """An atlas can't be used."""

    cause = "atlas"


class AtlasNotFound(AtlasError):
    """No atlas lies at the URI."""

    cause = "atlas-not-found"


class AtlasMismatch(AtlasError):
    """The atlas has another grid, other column types or another format version than asked."""

    cause = "atlas-mismatch"


class AtlasWriteFailed(AtlasError):
    """The store refused a write; nothing of it is visible, and running again goes on from there."""

    cause = "atlas-write-failed"


class AtlasVersionNotFound(AtlasError):
    """No such version, tag or time; or the atlas doesn't keep it any more."""

    cause = "atlas-version-not-found"


class AtlasDamaged(AtlasError):
    """A file of a table is damaged or gone: what it held must be indexed again."""

    cause = "atlas-damaged"


class AtlasBusy(AtlasError):
    """Another job writes to the atlas: one writes at a time, readers never wait."""

    cause = "atlas-busy"


class LeaseLost(AtlasWriteFailed):
    """Another job took the atlas over while this one gave no sign of life; it can't commit."""

    cause = "lease-lost"


class QueryError(MicrotomeError):
    """A question that can't be answered as asked."""

    cause = "query"


class QueryUnreadable(QueryError):
    """The query is nothing that can be asked with, or what it names is no image."""

    cause = "query-unreadable"


class TileNotFound(QueryError):
    """No tile of that id is in the atlas."""

    cause = "tile-not-found"


class FilterInvalid(QueryError):
    """The filter isn't an expression over the atlas's columns."""

    cause = "filter-invalid"
