"""One worker's half of an update: forward, backward, clipping, and what is kept of it all."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from microtome.config import Precision
from microtome.errors import TrainingDiverged
from microtome.models.card import Preprocessing
from microtome_training.averaging import WeightAverage, copy_into, trained_state
from microtome_training.feeding import Batch
from microtome_training.objective import Inputs, Objective
from microtome_training.recipe import Recipe
from microtome_training.recipe_fit import OptimiserRecipe
from microtome_training.sampler import Share
from microtome_training.schedule import Clock, rate
from microtome_training.state import Place, RunState

MAX_SKIPPED = 20
"""Updates in a row that fp16's gradient scaling may skip: from 65,536 that is down to 1/16."""


class Fitter:
    """A model on one device with all that moves its weights.

    Args:
        objective: already on its device.
        parallel: the same, wrapped in DDP where there are several workers.
        recipe: how weights move.
        share: this worker's; part of what seeds its random numbers.
    """

    def __init__(
        self, objective: Objective, parallel: nn.Module, recipe: Recipe, share: Share
    ) -> None:
        self.objective = objective
        self.device = next(objective.parameters()).device
        self.dtype = compute_dtype(recipe.fit.precision, self.device)
        self._parallel = parallel
        self._recipe = recipe
        self._share = share
        self._trained = [p for p in objective.parameters() if p.requires_grad]
        self._optimiser = build_optimiser(objective, recipe.optimiser)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        decay = recipe.fit.ema_decay
        self.average = None if decay is None else WeightAverage(objective, decay)
        self._normalise = Normalise(recipe.model.preprocessing, self.device)
        self._watch = Watch()

    def update(self, batches: Sequence[Batch], place: Place, updates: int) -> Tensor:
        """Move the weights once.

        Args:
            batches: whose gradients are averaged.
            place: in the run.
            updates: of an epoch.

        Returns:
            This worker's mean loss, a scalar on the device.

        Raises:
            TrainingDiverged: the gradient of this or the last update isn't finite. All workers
                raise it, since they share the gradient.
        """
        self._set_rates(
            Clock(self._recipe.fit.epochs, place.epoch + (place.update + 0.5) / updates)
        )
        self._seed(place)
        losses = []
        for number, batch in enumerate(batches, start=1):
            with self._sharing_gradients(number == len(batches)):
                with torch.autocast(
                    self.device.type, self.dtype, enabled=self.dtype != torch.float32
                ):
                    loss = self._parallel(self.inputs(batch), batch.labels.to(self.device))
                self._scaler.scale(loss / len(batches)).backward()
            losses.append(loss.detach())
        self._watch.look(place, self._step(), skips=self._scaler.is_enabled())
        if self.average is not None:
            self.average.update()
        return torch.stack(losses).mean()

    def inputs(self, batch: Batch) -> Inputs:
        """A batch's inputs as the objective takes them, on the device."""
        if isinstance(batch.inputs, Tensor):
            return self._normalise(batch.inputs)
        return [x.to(self.device, non_blocking=True).float() for x in batch.inputs]

    @property
    def rate(self) -> float:
        """The learning rate of the last update, of the first group of weights."""
        return float(self._optimiser.param_groups[0]["lr"])

    def settle(self) -> None:
        """Make sure that all updates so far were sound; call it before anything is kept."""
        self._watch.settle()

    def state(self, place: Place, identity: dict[str, Any]) -> RunState:
        """What must be kept to go on from `place`."""
        self.settle()
        tensors = {"model": dict(trained_state(self.objective))}
        if self.average is not None:
            tensors["average"] = self.average.state
        tensors["optimiser"] = {
            f"{number}.{name}": torch.as_tensor(value)
            for number, values in self._optimiser.state_dict()["state"].items()
            for name, value in values.items()
            if value is not None
        }
        updates = self.average.updates if self.average is not None else 0
        return RunState(place, identity, tensors, self._scaler.state_dict(), updates)

    def restore(self, state: RunState) -> None:
        """Take up what `state` kept."""
        copy_into(trained_state(self.objective), state.tensors["model"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.tensors["optimiser"].items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = tensor
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        if state.scaler:
            self._scaler.load_state_dict(dict(state.scaler))
        if self.average is not None and "average" in state.tensors:
            copy_into(self.average.state, state.tensors["average"])
            self.average.updates = state.average_updates

    def _step(self) -> Tensor:
        """Clip, move the weights, and give the gradient's norm as it was before.

        Gradients are unscaled first: clipping scaled ones would clip all of them. A frozen
        backbone's are not among them, since it has none.
        """
        self._scaler.unscale_(self._optimiser)
        limit = self._recipe.optimiser.clip_norm
        norm = nn.utils.clip_grad_norm_(self._trained, math.inf if limit is None else limit)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)
        return norm

    def _sharing_gradients(self, last: bool) -> contextlib.AbstractContextManager[None]:
        no_sync: Any = getattr(self._parallel, "no_sync", None)
        return contextlib.nullcontext() if last or no_sync is None else no_sync()

    def _set_rates(self, now: Clock) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = rate(self._recipe.schedule, group["highest"], now)

    def _seed(self, place: Place) -> None:
        """Dropout and its like depend on the place in the run, not on what went before."""
        parts = (self._recipe.fit.seed, place.epoch, place.update, self._share.rank)
        torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1)[0]))


class Watch:
    """Sees that gradients stay finite, one update late so that a GPU need not be waited for."""

    def __init__(self) -> None:
        self._pending: tuple[Place, Tensor, bool] | None = None
        self._skipped = 0

    def look(self, place: Place, norm: Tensor, *, skips: bool) -> None:
        """Remember an update's gradient norm, and judge the one before.

        Args:
            place: of the update.
            norm: of its gradient, the same on all workers.
            skips: a bad gradient was left out by fp16's scaling and may be a passing one.
        """
        self.settle()
        self._pending = place, norm, skips

    def settle(self) -> None:
        """Judge the last update seen.

        Raises:
            TrainingDiverged: its gradient isn't finite.
        """
        if self._pending is None:
            return
        place, norm, skips = self._pending
        self._pending = None
        if math.isfinite(norm.item()):
            self._skipped = 0
            return
        self._skipped += 1
        if not skips or self._skipped > MAX_SKIPPED:
            raise TrainingDiverged(
                f"the loss or its gradient is no finite number at step {place.update + 1} of "
                f"epoch {place.epoch + 1}",
                remedy="The last good checkpoint is kept; go on from it with --resume and a lower "
                "optimiser.lr, a longer schedule.warmup_epochs or fit.precision=fp32.",
            )


class Normalise:
    """Bytes to normalised floats on the device: (N, S, S, 3) uint8 to (N, 3, S, S) float32."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self._device = device
        mean, std = (
            torch.tensor(x, device=device) for x in (preprocessing.mean, preprocessing.std)
        )
        self._scale = (1 / (255 * std)).view(3, 1, 1)
        self._shift = (-mean / std).view(3, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """See the class's docstring."""
        images = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float()
        return images.mul_(self._scale).add_(self._shift)


def build_optimiser(objective: Objective, recipe: OptimiserRecipe) -> torch.optim.Optimizer:
    """The optimiser, its rates by backbone, rest of the model and loss; see `OptimiserRecipe`."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("embedder.backbone."):
            highest = recipe.backbone_lr or recipe.lr
        else:
            highest = recipe.lr if name.startswith("embedder.") else recipe.loss_lr or recipe.lr
        decays = recipe.decay_all or parameter.ndim > 1
        groups.setdefault((highest, recipe.weight_decay if decays else 0.0), []).append(parameter)
    options = [
        {"params": parameters, "lr": highest, "highest": highest, "weight_decay": decay}
        for (highest, decay), parameters in groups.items()
    ]
    if recipe.kind == "sgd":
        return torch.optim.SGD(options, lr=recipe.lr, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if recipe.kind == "adamw" else torch.optim.Adam
    return kind(options, lr=recipe.lr, amsgrad=recipe.amsgrad)


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What the network computes in; `auto` is bf16 on new GPUs, fp16 on old ones, fp32 on CPUs."""
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type != "cuda":
        return torch.float32
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 else torch.float16
