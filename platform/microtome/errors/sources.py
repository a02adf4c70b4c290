"""What can be wrong with slides and with lists of them."""

from __future__ import annotations

from microtome.errors.root import MicrotomeError


class SourceError(MicrotomeError):
    """A SOURCE or its manifest can't be read as asked."""

    cause = "source"


class SourceNotFound(SourceError):
    """Nothing lies at the path or URI, or nothing there is a slide."""

    cause = "source-not-found"


class SourceUnreadable(SourceError):
    """The store refused the listing: permissions, credentials, or no such bucket."""

    cause = "source-unreadable"


class ManifestError(SourceError):
    """The manifest lacks a key column, holds wrong types, or names slides that aren't there."""

    cause = "manifest"


class DuplicateSlideId(SourceError):
    """Two different files claim one slide id."""

    cause = "duplicate-slide-id"


class SlideError(MicrotomeError):
    """One slide can't be indexed."""

    cause = "slide"


class SlideUnreadable(SlideError):
    """Not a slide at all, or its structure is broken."""

    cause = "unreadable"


class SlideEmpty(SlideError):
    """The file holds no bytes."""

    cause = "empty-file"


class SlideTruncated(SlideError):
    """The file ends before its own structure does."""

    cause = "truncated"


class SlideChanged(SlideError):
    """Another version of the file took its place while it was read: no two halves are mixed."""

    cause = "changed"


class SlideUnsupported(SlideError):
    """A real image in a layout that no reader here takes."""

    cause = "unsupported-format"


class SlideImplausible(SlideError):
    """Dimensions that no scanner makes; reading on could exhaust memory."""

    cause = "implausible-dimensions"


class SlideWithoutMpp(SlideError):
    """Neither the slide, the manifest nor an allowed assumption gives µm per pixel."""

    cause = "no-mpp"


class SlideTooCoarse(SlideError):
    """The finest level is coarser than the wanted mpp: tiles would be invented detail."""

    cause = "too-coarse"


class NotBrightfield(SlideError):
    """The picture is dark: fluorescence or no stained tissue, where a tissue mask means nothing."""

    cause = "not-brightfield"


class DuplicateContent(SlideError):
    """The same bytes are already in the atlas under another slide id."""

    cause = "duplicate-content"


class SlideForgotten(SlideError):
    """The slide, its bytes or its case were forgotten; no ledger row may name it again."""

    cause = "slide-forgotten"


class TileReadFailed(SlideError):
    """Pixels could not be decoded at one place of a slide that opened well."""

    cause = "read-failed"


class WorkerLost(SlideError):
    """The worker process died each time it read this slide (out of memory, a codec crash)."""

    cause = "worker-lost"


class SlideUnexpected(SlideError):
    """An error nobody foresaw; the worker's log holds its trace. The other slides go on."""

    cause = "unexpected"
