"""The objective: embedding model and loss in one module, `forward(images, labels) → loss`.

One module, because one DistributedDataParallel (DDP) must see all that is trained: ArcFace's class
centres under a wrapper of their own differ silently from worker to worker.

Losses and miner are pytorch-metric-learning's. Everything after the embedding runs in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import SubCenterArcFaceLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn

from microtome.models.cgd import CGD, AuxiliaryClassifier
from microtome.models.lgffem import LGFFEM, prefixes
from microtome_training.recipe import ObjectiveRecipe

Embedder = LGFFEM | CGD
Inputs = Tensor | Sequence[Tensor]
"""Pixels (N, 3, H, W) float, normalised; or what `embedder.features` gave for them."""


def build_objective(embedder: Embedder, recipe: ObjectiveRecipe, classes: int) -> Objective:
    """The objective that a recipe asks for.

    Args:
        embedder: the model that is kept.
        recipe: the loss.
        classes: how many there are; labels are 0 to `classes` - 1.
    """
    if recipe.kind == "arcface":
        return ArcFace(embedder, recipe, classes)
    if not isinstance(embedder, CGD):
        raise TypeError("triplets train CGD, whose first descriptor is classified beside them")
    return TripletsAndClasses(embedder, recipe, classes)


class Objective(nn.Module):
    """What is minimised.

    Args:
        embedder: the model that is kept; the loss's own weights are thrown away in the end.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def features(self, inputs: Inputs) -> Sequence[Tensor]:
        """Features of pixels, or cached ones as they are."""
        return self.embedder.features(inputs) if isinstance(inputs, Tensor) else inputs

    def loss_of(self, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The loss, a float32 scalar, of features and labels (N,) int64."""
        raise NotImplementedError

    def forward(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Map a batch and its labels (N,) int64 to the loss, a float32 scalar."""
        return self.loss_of(self.features(inputs), labels)


class ArcFace(Objective):
    """Sub-center ArcFace: Deng et al., "Sub-center ArcFace" (ECCV 2020), equation 3.

    pytorch-metric-learning 2.9 takes the margin in degrees (its default of 28.6 is the 0.5 radians
    of the paper); a version that took radians would read 28.6 as four and a half turns, so the
    version is pinned and a test holds the loss to the equation.

    Where the model has `matryoshka_dims`, each prefix has centres of its own, and the losses of all
    lengths are averaged.
    """

    def __init__(self, embedder: Embedder, recipe: ObjectiveRecipe, classes: int) -> None:
        super().__init__(embedder)
        config = embedder.config
        self.lengths = (*getattr(config, "matryoshka_dims", ()), config.dim)
        self.losses = nn.ModuleList(
            SubCenterArcFaceLoss(
                num_classes=classes,
                embedding_size=length,
                margin=recipe.margin_deg,
                scale=recipe.scale,
                sub_centers=recipe.sub_centers,
            )
            for length in self.lengths
        )

    def loss_of(self, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        """See `Objective`."""
        vectors = self.embedder.embed_features(features)
        with torch.autocast(vectors.device.type, enabled=False):
            parts = prefixes(vectors.float(), self.lengths)
            losses = [loss(x, labels) for loss, x in zip(self.losses, parts, strict=True)]
            return torch.stack(losses).mean()


class TripletsAndClasses(Objective):
    """CGD's loss: batch-hard triplets of all workers' vectors, and auxiliary classification.

    Source: Jun et al. (arXiv 1903.10663, section 3.3); batch-hard mining is Hermans et al. (arXiv
    1703.07737, equation 5), with Euclidean distances between unit vectors.
    """

    embedder: CGD

    def __init__(self, embedder: CGD, recipe: ObjectiveRecipe, classes: int) -> None:
        super().__init__(embedder)
        distance = LpDistance(normalize_embeddings=False)  # they are of unit length already
        self.recipe = recipe
        self.classifier = AuxiliaryClassifier(embedder.channels, classes)
        self.miner = BatchHardMiner(distance=distance)
        self.triplets = TripletMarginLoss(recipe.margin, distance=distance, reducer=MeanReducer())

    def loss_of(self, features: Sequence[Tensor], labels: Tensor) -> Tensor:
        """See `Objective`."""
        vectors = self.embedder.embed_features(features)
        logits = self.classifier(features[0]).float() / self.recipe.temperature
        with torch.autocast(vectors.device.type, enabled=False):
            classification = F.cross_entropy(
                logits, labels, label_smoothing=self.recipe.label_smoothing
            )
            return self._ranking(vectors.float(), labels) + (
                self.recipe.classification_weight * classification
            )

    def _ranking(self, vectors: Tensor, labels: Tensor) -> Tensor:
        everyone, their_labels, workers = gather(vectors, labels)
        mined = self.miner(everyone, their_labels)
        loss: Tensor = self.triplets(everyone, their_labels, mined)
        # Each worker has the same loss but the gradient of its own vectors alone, and DDP takes the
        # mean over workers where the sum is wanted.
        return loss + (workers - 1) * (loss - loss.detach())


def gather(vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, int]:
    """Everybody's vectors and labels, in the order of ranks, and how many workers there are.

    Gradients flow to this worker's own vectors only. All workers must hold equally many.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return vectors, labels, 1
    workers, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    if workers == 1:
        return vectors, labels, 1
    parts = [torch.empty_like(vectors) for _ in range(workers)]
    their_labels = [torch.empty_like(labels) for _ in range(workers)]
    torch.distributed.all_gather(parts, vectors.detach().contiguous())
    torch.distributed.all_gather(their_labels, labels.contiguous())
    parts[rank] = vectors
    return torch.cat(parts), torch.cat(their_labels), workers
