"""A frozen encoder's vectors, seen from where tissue differs: centre → linear map → unit length.

The map is fitted to labelled images in closed form, Fisher's linear discriminant with shrinkage
(Fisher, Ann Eugen 7:179, 1936; shrinkage as Friedman, JASA 84:165, 1989):

    Sw = mean of (x - mean of its class)(…)ᵀ + shrinkage · mean variance within classes · I
    Sb = mean of (mean of a class - mean of all)(…)ᵀ, each class counting alike
    rows of the map = the leading eigenvectors of Sw⁻¹ Sb, with aᵀ Sw a = 1

so directions in which images of one class scatter (stain, scanner, focus, where the images show
them) shrink, and those in which classes differ remain. With few classes, the directions beyond
classes - 1 hold no difference of means; they are filled by those of most variance among all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from microtome.config import check_positive, check_whole
from microtome.errors import SettingError

KIND = "projection"


class Projection(nn.Module):
    """See the module's docstring.

    Args:
        encoder: maps (N, 3, H, W) to (N, in_dim); kept as it is.
        in_dim: length of its vectors.
        dim: length of the vectors that come out.

    Raises:
        SettingError: `dim` doesn't lie between 1 and `in_dim`.
    """

    centre: Tensor

    def __init__(self, encoder: nn.Module, in_dim: int, dim: int) -> None:
        super().__init__()
        check_whole("in_dim", in_dim, least=1, most=65_536)
        check_whole("dim", dim, least=1, most=in_dim)
        self.encoder = encoder.eval().requires_grad_(False)
        self.register_buffer("centre", torch.zeros(in_dim))
        self.linear = nn.Linear(in_dim, dim, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, 3, H, W) float, normalised as the encoder wants it, to (N, dim) float32."""
        return self.project(self.encoder(pixels))

    def project(self, vectors: Tensor) -> Tensor:
        """Map the encoder's vectors (N, in_dim) of any length to (N, dim) float32 of length 1."""
        with torch.autocast(vectors.device.type, enabled=False):
            centred = F.normalize(vectors.float(), dim=1) - self.centre
            return F.normalize(self.linear(centred), dim=1)

    @torch.no_grad()
    def fit(self, vectors: Tensor, labels: Tensor, shrinkage: float) -> None:
        """Set centre and map; nothing random is in it.

        Args:
            vectors: the encoder's, (N, in_dim), of any length.
            labels: (N,) int64, class of each.
            shrinkage: of the scatter within classes towards a sphere, above 0; the fewer images,
                the more is good.

        Raises:
            SettingError: fewer than two classes, or vectors that don't differ within any.
        """
        check_positive("shrinkage", shrinkage)
        found = F.normalize(vectors.double(), dim=1)
        centre, within, between = _scatter(found, labels)
        variance = within.diagonal().mean()
        if not variance > 0:
            raise SettingError(
                "the images of each class are all alike to the encoder, so nothing can be fitted",
                remedy="Bring several images of at least some classes.",
            )
        sphere = torch.eye(len(within), dtype=within.dtype, device=within.device)
        shrunk = within + shrinkage * variance * sphere
        self.centre.copy_(centre)
        self.linear.weight.copy_(_discriminants(shrunk, between, within)[: len(self.linear.weight)])


def _scatter(vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of the vectors (D,), and their scatter (D, D) within and between classes."""
    classes, member = torch.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise SettingError("a projection needs at least two classes to tell apart")
    means = vectors.new_zeros(len(classes), vectors.shape[1]).index_add_(0, member, vectors)
    means /= member.bincount()[:, None]
    inner, outer = vectors - means[member], means - vectors.mean(dim=0)
    return vectors.mean(dim=0), inner.T @ inner / len(inner), outer.T @ outer / len(outer)


def _discriminants(shrunk: Tensor, between: Tensor, within: Tensor) -> Tensor:
    """All directions as rows (D, D), those that tell most apart first."""
    whiten = torch.linalg.inv(torch.linalg.cholesky(shrunk))
    # The least bit of the scatter within orders what the means leave open.
    seen = whiten @ (between + 1e-6 * within) @ whiten.T
    _, directions = torch.linalg.eigh((seen + seen.T) / 2)
    rows = directions.flip(1).T @ whiten
    sign = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True)).sign()  # eigh leaves it open
    signed: Tensor = rows * sign
    return signed
