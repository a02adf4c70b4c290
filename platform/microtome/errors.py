"""Every error Microtome raises on purpose.

    MicrotomeError
    ├─ SettingError            a flag, a file or a variable holds a value that can't be right
    │  ├─ NotConfirmed         what can't be undone, or undoes much, wants --yes
    │  └─ SlideUnknown         the atlas holds no such slide or case
    ├─ SourceError             a SOURCE or its manifest can't be read as asked
    │  ├─ SourceNotFound
    │  ├─ SourceUnreadable
    │  ├─ ManifestError
    │  └─ DuplicateSlideId
    ├─ SlideError              one slide can't be indexed: a ledger row, never the end of a job
    │  ├─ SlideUnreadable      not a slide at all, or its structure is broken
    │  ├─ SlideEmpty           the file holds no bytes
    │  ├─ SlideTruncated       the file ends before its own structure does
    │  ├─ SlideChanged         another version of the file took its place while it was read
    │  ├─ SlideUnsupported     a real image that no reader here takes
    │  ├─ SlideImplausible     dimensions that no scanner makes
    │  ├─ SlideWithoutMpp      nobody says how large a pixel is
    │  ├─ SlideTooCoarse       scanned at a lower resolution than the wanted one
    │  ├─ NotBrightfield       fluorescence, or no slide of stained tissue
    │  ├─ DuplicateContent     the same bytes are in the atlas under another name
    │  ├─ SlideForgotten       it was forgotten, or its case was; it may not come back
    │  ├─ TileReadFailed       pixels could not be decoded at one place
    │  ├─ WorkerLost           the process died, more than once, while it read this slide
    │  └─ SlideUnexpected      a fault of the program that this slide brought to light
    ├─ ModelError
    │  ├─ ModelNotFound
    │  ├─ CheckpointInvalid    a model folder that isn't what its card says
    │  ├─ LicenceRefused
    │  └─ ModelMismatch        vectors of another model, or a model for another mpp
    ├─ AtlasError
    │  ├─ AtlasNotFound
    │  ├─ AtlasMismatch        another grid, other columns or another version than asked
    │  ├─ AtlasVersionNotFound no such version, tag or time, or it is no longer kept
    │  ├─ AtlasDamaged         a file of a table is damaged or gone
    │  ├─ AtlasBusy            another job writes to the atlas
    │  └─ AtlasWriteFailed     the disk is full, or the store refused the write
    │     └─ LeaseLost         another job took the atlas over while this one was silent
    ├─ DatasetError
    │  ├─ DatasetNotFound      nothing lies there
    │  ├─ DatasetInvalid       not laid out as published: something is missing or too much
    │  ├─ ImageUnreadable      one image of it is broken, gone, or no image
    │  └─ SplitImpossible      the groups can't be kept apart as asked
    ├─ TrainingError           a model can't be fitted
    │  ├─ TrainingDiverged     the loss or its gradient is no finite number any more
    │  ├─ ImagesCorrupt        more images than allowed can't be read
    │  ├─ ResumeImpossible     what was kept of a run is damaged, or of another model
    │  └─ TrainingWriteFailed  the disk is full, or the store refused a checkpoint
    ├─ EvaluationError         a model can't be judged
    │  ├─ VectorsInvalid       given vectors: another shape, not finite, or not fitting their labels
    │  └─ NothingToFind        no query has anything that could be found
    ├─ ClusterFailed           Ray can't go on: no worker could start, or the cluster is gone
    ├─ RequestError            a request to a server that isn't answered, whatever it asks
    │  ├─ TokenRefused         none, unknown, expired or revoked: nobody says which
    │  ├─ NotAllowed           the token's role doesn't reach that far
    │  ├─ AccessUnavailable    who may ask can't be looked up, so nobody may
    │  ├─ RateExceeded         more requests than the token has
    │  ├─ RequestTooLarge      more bytes, pixels or parts than the server takes
    │  ├─ RequestTooSlow       its body didn't arrive in time
    │  └─ DeadlinePassed       the answer wasn't ready in time; the work was given up
    └─ QueryError
       ├─ QueryUnreadable      neither an image, a tile id nor a region of a slide
       ├─ TileNotFound
       └─ FilterInvalid        a --where that isn't an expression over the columns

An error says what is wrong, names the input as its user named it, and says what to do.
"""

from __future__ import annotations

from typing import ClassVar


class MicrotomeError(Exception):
    """Root of the tree.

    Args:
        message: what is wrong, in one sentence that names the input; no trailing full stop.
        remedy: what the user can do about it, in one sentence; may be empty.
    """

    cause: ClassVar[str] = "error"
    """A stable slug for scripts: the ledger's `cause` column and `--json` errors hold it."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message


class SettingError(MicrotomeError):
    """A setting is wrong; raised before any work starts."""

    cause = "setting"


class NotConfirmed(SettingError):
    """A command that can't be undone, or that undoes much, was not told to go ahead."""

    cause = "not-confirmed"


class SlideUnknown(SettingError):
    """The atlas holds no such slide, or no slide of such a case."""

    cause = "slide-unknown"


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


class ModelError(MicrotomeError):
    """A model can't be used."""

    cause = "model"


class ModelNotFound(ModelError):
    """No model of that name, and no folder either; or its weights can't be fetched here."""

    cause = "model-not-found"


class CheckpointInvalid(ModelError):
    """A model folder lacks a file, or its content doesn't match its card."""

    cause = "checkpoint-invalid"


class LicenceRefused(ModelError):
    """The weights' licence isn't permissive and was not allowed by name."""

    cause = "licence-refused"


class ModelMismatch(ModelError):
    """The atlas holds vectors of another model, or the model is for another mpp."""

    cause = "model-mismatch"


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


class DatasetError(MicrotomeError):
    """A set of labelled images can't be used."""

    cause = "dataset"


class DatasetNotFound(DatasetError):
    """Nothing lies where the set should be."""

    cause = "dataset-not-found"


class DatasetInvalid(DatasetError):
    """What lies there isn't laid out as published: something is missing or too much."""

    cause = "dataset-invalid"


class ImageUnreadable(DatasetError):
    """One image of a set is broken, gone, or no image."""

    cause = "image-unreadable"


class SplitImpossible(DatasetError):
    """A set can't be split as asked with its groups kept apart."""

    cause = "split-impossible"


class TrainingError(MicrotomeError):
    """A model can't be fitted."""

    cause = "training"


class TrainingDiverged(TrainingError):
    """The loss or its gradient is no finite number any more; the last good checkpoint is kept."""

    cause = "training-diverged"


class ImagesCorrupt(TrainingError):
    """More images of the set than were allowed can't be read."""

    cause = "images-corrupt"


class ResumeImpossible(TrainingError):
    """What was kept of a run is damaged, or belongs to another model or another set."""

    cause = "resume-impossible"


class TrainingWriteFailed(TrainingError):
    """The disk is full, or the store refused a checkpoint; the ones before are whole."""

    cause = "training-write-failed"


class EvaluationError(MicrotomeError):
    """A model can't be judged as asked."""

    cause = "evaluation"


class VectorsInvalid(EvaluationError):
    """Given vectors have another shape, aren't finite, or don't fit their labels."""

    cause = "vectors-invalid"


class NothingToFind(EvaluationError):
    """No query has anything that could be found: a figure would mean nothing."""

    cause = "nothing-to-find"


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


class ClusterFailed(MicrotomeError):
    """Ray can't go on: no worker could start, or the cluster is gone; running again goes on."""

    cause = "cluster"


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


class RequestTooLarge(RequestError):
    """More bytes, pixels or parts than the server takes."""

    cause = "too-large"


class RequestTooSlow(RequestError):
    """The body of a request didn't arrive in time."""

    cause = "too-slow"


class DeadlinePassed(RequestError):
    """The answer wasn't ready in time; the work on it was given up."""

    cause = "deadline-passed"
