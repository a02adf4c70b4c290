"""The pipeline on Ray Data: one slide in, one outcome out.

An actor owns the model and reads its own tiles, because pixels that cross processes cost more
than the model: only outcomes leave an actor, and only fragments' metadata is in them.

What of Ray Data 2.60 this leans on, each seen to matter:
- `from_items` with `override_num_blocks`: one slide per task, since bundled slides would wait for
  each other; a repartition would need cores of its own, and the actors hold them all.
- `max_errored_blocks=-1` with bounded retries: a slide that kills its process is dropped instead of
  ending the job. Every other failure is data, so nothing else hides behind it. The same befalls
  slides whose machine is lost, since Ray may use up their retries before it has noticed, and those
  queued behind one that kills. So what is missing at the end is tried again, one slide at a time
  on each worker; the caller sees whose outcome is still missing.
- `execution_no_progress_timeout_s=-1`: a slide of an hour is no hang.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from microtome.atlas.outcome import SlideOutcome
from microtome.config import storage_place
from microtome.engine.cluster import Node, cluster_failed
from microtome.engine.progress import Tally
from microtome.engine.slide_work import Work
from microtome.errors import MicrotomeError, ModelReplaced, SettingError
from microtome.models.encoder import Encoder, EncoderOptions
from microtome.models.registry import load_encoder
from microtome.slides.slide import SlideRef

MAX_TASKS = 5000  # each is an object in Ray's store
MMAP_FROM_BYTES = str(16 * 2**20)
"""glibc gives larger blocks back at once. By default it learns to keep blocks of up to 32 MiB on
the heap, where the few bytes of each batch that wait for their fragment pin them: 3 GB in 8,000
tiles were seen. At 1 MiB memory is as flat, but mapping costs a tenth of the speed."""
RETRIES = 1  # of one slide in one pipeline, after its process died


@dataclass(frozen=True, slots=True)
class Workers:
    """How the model is spread.

    Attributes:
        count: processes at most; where an autoscaler adds nodes, more than there are now.
        cpus: cores of each.
        gpus: GPUs of each, 1 or 0.
    """

    count: int
    cpus: int
    gpus: float

    @classmethod
    def for_cluster(cls, nodes: Sequence[Node], count: int = 0, cpus: int = 0) -> Workers:
        """Fill the cluster: a process per GPU, else one per four cores; 0 means choose.

        Raises:
            SettingError: no node has the cores that each worker should have.
        """
        gpus = sum(node.gpus for node in nodes)
        useful = [node for node in nodes if node.gpus] if gpus else list(nodes)
        most = max(node.cpus for node in useful)
        if cpus > most:
            raise SettingError(f"cpus_per_worker is {cpus}, but no node has more than {most} cores")
        if gpus:
            share = min(node.cpus // node.gpus for node in useful)
            return cls(count or gpus, cpus or max(1, share), 1.0)
        cpus = cpus or min(4, most)
        return cls(count or max(1, sum(node.cpus // cpus for node in useful)), cpus, 0.0)

    def pool(self, slides: int, *, alone: bool) -> ActorPoolStrategy:
        """The actors for so many slides; `alone` queues no slide behind another one."""
        count = min(self.count, slides)
        if alone:
            return ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1)
        return ActorPoolStrategy(min_size=1, max_size=count)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The encoder that every actor loads.

    Attributes:
        name: as `load_encoder` takes it.
        options: device, precision, licences.
        model_id: of the model that lay there when the job began.
    """

    name: str
    options: EncoderOptions
    model_id: str

    def load(self) -> Encoder:
        """The encoder; what lies in a folder or a bucket may be replaced while a job runs.

        Raises:
            ModelReplaced: it is another model by now.
            MicrotomeError: it can't be loaded.
        """
        encoder = load_encoder(self.name, self.options)
        if encoder.card.model_id != self.model_id:
            raise ModelReplaced(
                f"{self.name} was replaced while the job ran: it was the model {self.model_id}, "
                f"and is {encoder.card.model_id}",
                remedy="Put the first one back and run again, or start anew with the other one; "
                "a place of its own for each model keeps them apart.",
            )
        return encoder


class SlideActor:
    """The model, and the slides it is given one after another."""

    def __init__(self, work: Work, model: ModelChoice, tally: Tally) -> None:
        self._work = work
        self._tally = tally
        self._encoder: Encoder | MicrotomeError
        try:
            self._encoder = model.load()
        except MicrotomeError as error:  # raised here, Ray would tell of a lost actor only
            self._encoder = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Embed the slide in `batch["ref"]`; an error that isn't the slide's travels as data."""
        ref: SlideRef = pickle.loads(batch["ref"][0])  # noqa: S301 - our own driver's bytes
        return {"result": np.array([pickle.dumps(self._outcome(ref))], dtype=object)}

    def _outcome(self, ref: SlideRef) -> SlideOutcome | MicrotomeError:
        if isinstance(self._encoder, MicrotomeError):
            return self._encoder
        try:
            return self._work.run(ref, self._encoder, self._tally.add)
        except MicrotomeError as error:
            return error


def embed_slides(
    refs: Sequence[SlideRef], work: Work, model: ModelChoice, workers: Workers, tally: Tally
) -> Iterator[SlideOutcome]:
    """Embed slides on the cluster; outcomes come as they are finished, in no fixed order.

    A slide whose process died each time has no outcome. A pipeline takes so many slides that each
    has a task of its own; an archive of more goes through several.

    Raises:
        MicrotomeError: what isn't one slide's fault, e.g. `AtlasWriteFailed`, `ClusterFailed`.
    """
    for start in range(0, len(refs), MAX_TASKS):
        missing = {ref.slide_id: ref for ref in refs[start : start + MAX_TASKS]}
        for alone in (False, True):
            if missing:
                pool = workers.pool(len(missing), alone=alone)
                pipeline = _pipeline(list(missing.values()), work, model, workers, tally, pool)
                for outcome in _outcomes(pipeline):
                    missing.pop(outcome.ref.slide_id, None)
                    yield outcome


def _pipeline(
    refs: Sequence[SlideRef],
    work: Work,
    model: ModelChoice,
    workers: Workers,
    tally: Tally,
    pool: ActorPoolStrategy,
) -> Dataset:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    context.execution_no_progress_timeout_s = -1
    rows = [{"ref": pickle.dumps(ref)} for ref in refs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # until 2.64 names the retries
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            SlideActor,
            fn_constructor_args=(work, model, tally),
            batch_size=1,
            compute=pool,
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
            runtime_env={
                "env_vars": {"MALLOC_MMAP_THRESHOLD_": MMAP_FROM_BYTES, **storage_place()}
            },
            ray_remote_args_fn=lambda: {"max_task_retries": RETRIES},
        )


def _outcomes(pipeline: Dataset) -> Iterator[SlideOutcome]:
    try:
        for block in pipeline.iter_batches(batch_size=None, batch_format="numpy"):
            for data in block["result"]:
                result = pickle.loads(data)  # noqa: S301 - our own workers' bytes
                if isinstance(result, MicrotomeError):
                    raise result
                yield result
    except RayError as error:
        raise cluster_failed(error) from error
