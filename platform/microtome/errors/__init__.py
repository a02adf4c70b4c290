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
    │  ├─ ModelMismatch        vectors of another model, or a model for another mpp
    │  └─ ModelReplaced        another model is where this one was: a server changes to it
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
    │  ├─ Overloaded           the server has more to do than it can
    │  ├─ RequestTooLarge      more bytes, pixels or parts than the server takes
    │  ├─ RequestTooSlow       its body didn't arrive in time
    │  ├─ DeadlinePassed       the answer wasn't ready in time; the work was given up
    │  └─ ProcessLost          every process that was given it died
    ├─ ServerError             a server was asked, and there is no answer that can be used
    │  ├─ ServerUnreachable
    │  ├─ ServerBusy           more to do than it can, also after several tries
    │  ├─ ServerFailed
    │  ├─ ServerRefused        for a reason that has no error of its own here
    │  └─ AnswerUnreadable     no answer of a Microtome server, or of another version
    └─ QueryError
       ├─ QueryUnreadable      neither an image, a tile id nor a region of a slide
       ├─ TileNotFound
       └─ FilterInvalid        a --where that isn't an expression over the columns

An error says what is wrong, names the input as its user named it, and says what to do.
"""

from __future__ import annotations

from microtome.errors.atlas import (
    AtlasBusy,
    AtlasDamaged,
    AtlasError,
    AtlasMismatch,
    AtlasNotFound,
    AtlasVersionNotFound,
    AtlasWriteFailed,
    FilterInvalid,
    LeaseLost,
    QueryError,
    QueryUnreadable,
    TileNotFound,
)
from microtome.errors.datasets import (
    DatasetError,
    DatasetInvalid,
    DatasetNotFound,
    ImageUnreadable,
    SplitImpossible,
)
from microtome.errors.models import (
    CheckpointInvalid,
    EvaluationError,
    ImagesCorrupt,
    LicenceRefused,
    ModelError,
    ModelMismatch,
    ModelNotFound,
    ModelReplaced,
    NothingToFind,
    ResumeImpossible,
    TrainingDiverged,
    TrainingError,
    TrainingWriteFailed,
    VectorsInvalid,
)
from microtome.errors.requests import (
    AccessUnavailable,
    AnswerUnreadable,
    DeadlinePassed,
    NotAllowed,
    Overloaded,
    ProcessLost,
    RateExceeded,
    RequestError,
    RequestTooLarge,
    RequestTooSlow,
    ServerBusy,
    ServerError,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
    TokenRefused,
)
from microtome.errors.root import (
    ClusterFailed,
    MicrotomeError,
    NotConfirmed,
    SettingError,
    SlideUnknown,
)
from microtome.errors.sources import (
    DuplicateContent,
    DuplicateSlideId,
    ManifestError,
    NotBrightfield,
    SlideChanged,
    SlideEmpty,
    SlideError,
    SlideForgotten,
    SlideImplausible,
    SlideTooCoarse,
    SlideTruncated,
    SlideUnexpected,
    SlideUnreadable,
    SlideUnsupported,
    SlideWithoutMpp,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
    TileReadFailed,
    WorkerLost,
)

__all__ = [
    "AccessUnavailable",
    "AnswerUnreadable",
    "AtlasBusy",
    "AtlasDamaged",
    "AtlasError",
    "AtlasMismatch",
    "AtlasNotFound",
    "AtlasVersionNotFound",
    "AtlasWriteFailed",
    "CheckpointInvalid",
    "ClusterFailed",
    "DatasetError",
    "DatasetInvalid",
    "DatasetNotFound",
    "DeadlinePassed",
    "DuplicateContent",
    "DuplicateSlideId",
    "EvaluationError",
    "FilterInvalid",
    "ImageUnreadable",
    "ImagesCorrupt",
    "LeaseLost",
    "LicenceRefused",
    "ManifestError",
    "MicrotomeError",
    "ModelError",
    "ModelMismatch",
    "ModelNotFound",
    "ModelReplaced",
    "NotAllowed",
    "NotBrightfield",
    "NotConfirmed",
    "NothingToFind",
    "Overloaded",
    "ProcessLost",
    "QueryError",
    "QueryUnreadable",
    "RateExceeded",
    "RequestError",
    "RequestTooLarge",
    "RequestTooSlow",
    "ResumeImpossible",
    "ServerBusy",
    "ServerError",
    "ServerFailed",
    "ServerRefused",
    "ServerUnreachable",
    "SettingError",
    "SlideChanged",
    "SlideEmpty",
    "SlideError",
    "SlideForgotten",
    "SlideImplausible",
    "SlideTooCoarse",
    "SlideTruncated",
    "SlideUnexpected",
    "SlideUnknown",
    "SlideUnreadable",
    "SlideUnsupported",
    "SlideWithoutMpp",
    "SourceError",
    "SourceNotFound",
    "SourceUnreadable",
    "SplitImpossible",
    "TileNotFound",
    "TileReadFailed",
    "TokenRefused",
    "TrainingDiverged",
    "TrainingError",
    "TrainingWriteFailed",
    "VectorsInvalid",
    "WorkerLost",
]
