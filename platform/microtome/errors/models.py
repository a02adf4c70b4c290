"""What can be wrong with a model, with its training and with its judgement."""

from __future__ import annotations

from microtome.errors.root import MicrotomeError


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


class ModelReplaced(ModelError):
    """Another model is where this one was: a server changes to it, a job can't go on."""

    cause = "model-replaced"


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
