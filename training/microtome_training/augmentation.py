"""From a decoded image to the square that the model sees, varied in training, plain in validation.

Each image's variation comes from a generator of its own, seeded by its place in the run, so it
does not depend on which thread or worker makes it. OpenCV does the work and releases the GIL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome.errors import SettingError
from microtome.slides.slide import Pixels
from microtome_training.recipe import AugmentationRecipe, DataRecipe

# Absorbances of haematoxylin, eosin and DAB in red, green and blue, one stain a row (Ruifrok and
# Johnston, "Quantification of histochemical staining by color deconvolution", 2001, table 1).
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)
UNMIX = np.linalg.inv(STAINS)
ABSORBANCE = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)  # of a grey level; +1: black
RESIZED_SHAPES = (3 / 4, 4 / 3)
REFERENCE_MARGIN = 8 / 9  # 224 of 252 px

# Decoding has threads of its own; OpenCV's would only compete with them.
cv2.setNumThreads(1)


@dataclass(frozen=True, slots=True)
class View:
    """How images become inputs.

    Attributes:
        recipe: what varies.
        input_px: side of the result.
        scale: the model's µm per pixel over the images'; None where the model is made for none, so
            that `mpp` takes the whole image.
    """

    recipe: AugmentationRecipe
    input_px: int
    scale: float | None = None

    def plain(self, pixels: Pixels) -> Pixels:
        """The middle of the image, unvaried: (input_px, input_px, 3) uint8.

        `mpp` takes as much as the input covers at the model's resolution; `resized` and `none` the
        largest square; `reference` the whole image, squashed as the reference does.
        """
        height, width = pixels.shape[:2]
        if self.recipe.crop == "reference":
            return _fit(pixels, self.input_px)
        side = min(height, width)
        if self.recipe.crop == "mpp" and self.scale is not None:
            side = min(side, round(self.input_px * self.scale))
        return _cut(pixels, ((width - side) // 2, (height - side) // 2, side, side), self.input_px)

    def varied(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """A random view: (input_px, input_px, 3) uint8."""
        recipe = self.recipe
        x = _cut(pixels, self._crop(pixels.shape, random), self.input_px)
        if recipe.flips:
            x = np.rot90(x, int(random.integers(4)))
        if (recipe.flips or recipe.mirror) and random.random() < 0.5:
            x = x[:, ::-1]
        if recipe.blur and random.random() < recipe.blur:
            x = _blurred(x, random.uniform(0.3, 1.2))
        if recipe.stain or recipe.brightness:
            x = _recolour(np.ascontiguousarray(x), recipe, random)
        return np.ascontiguousarray(x)

    def _crop(
        self, shape: tuple[int, ...], random: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """x, y, width and height of the part that is kept."""
        height, width = shape[:2]
        if self.recipe.crop == "resized":
            crop_width, crop_height = _part(width, height, self.recipe.crop_area, random)
        elif self.recipe.crop == "mpp":
            crop_width = crop_height = self._side(min(width, height), random)
        elif self.recipe.crop == "reference":
            crop_width = round(width * REFERENCE_MARGIN)
            crop_height = round(height * REFERENCE_MARGIN)
        else:
            crop_width = crop_height = min(width, height)
        x = int(random.integers(width - crop_width + 1))
        y = int(random.integers(height - crop_height + 1))
        return x, y, crop_width, crop_height

    def _side(self, most: int, random: np.random.Generator) -> int:
        """Side of a square at the model's resolution, zoomed; no larger than the image."""
        zoom = float(self.recipe.zoom ** random.uniform(-1, 1))
        if self.scale is None:
            return max(1, round(most / max(zoom, 1 / zoom)))
        return max(1, min(most, round(self.input_px * self.scale / zoom)))


def scale_of(data: DataRecipe, images_mpp: float | None) -> float | None:
    """`View.scale` of images at `images_mpp`, None where nobody says.

    Raises:
        SettingError: the model is made for a resolution, but that of the images isn't known.
    """
    if data.mpp is None:
        return None
    if images_mpp is None:
        raise SettingError(
            f"data.mpp is {data.mpp:g}, but nobody says how large the images' pixels are",
            remedy="Set data.images_mpp to their µm per pixel, or leave data.mpp out.",
        )
    return data.mpp / images_mpp


def _part(
    width: int, height: int, least_area: float, random: np.random.Generator
) -> tuple[int, int]:
    """Width and height of a part with random area and shape, as GoogLeNet was trained with."""
    area = width * height * random.uniform(least_area, 1.0)
    shape = np.exp(random.uniform(*np.log(RESIZED_SHAPES)))
    crop_width, crop_height = round(np.sqrt(area * shape)), round(np.sqrt(area / shape))
    return max(1, min(width, crop_width)), max(1, min(height, crop_height))


def _cut(pixels: Pixels, box: tuple[int, int, int, int], side: int) -> Pixels:
    x, y, width, height = box
    return _fit(pixels[y : y + height, x : x + width], side)


def _fit(pixels: Pixels, side: int) -> Pixels:
    """Resize to a square; areas are averaged where it shrinks."""
    if pixels.shape[:2] == (side, side):
        return np.ascontiguousarray(pixels)
    shrinks = min(pixels.shape[:2]) > side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    fitted: Any = cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=method)
    return np.asarray(fitted, np.uint8)


def _blurred(pixels: Pixels, sigma_px: float) -> Pixels:
    blurred: Any = cv2.GaussianBlur(np.ascontiguousarray(pixels), (0, 0), sigma_px)
    return np.asarray(blurred, np.uint8)


def _recolour(pixels: Pixels, recipe: AugmentationRecipe, random: np.random.Generator) -> Pixels:
    """Vary the amount of each stain, and the light.

    Absorbances are unmixed into stains, each is scaled by 1 ± stain and shifted by ± stain / 2, and
    mixed again; brightness shifts all absorbances alike. Together that is one 3 × 4 matrix.
    """
    factors = random.normal(1, recipe.stain, 3)
    shifts = random.normal(0, recipe.stain / 2, 3)
    light = np.log1p(random.uniform(-recipe.brightness, recipe.brightness))
    return _mixed(pixels, UNMIX @ np.diag(factors) @ STAINS, shifts @ STAINS - light)


def _mixed(pixels: Pixels, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Pixels:
    """Pixels whose absorbances a (row vectors) became `a @ matrix + shift`."""
    affine = np.column_stack([matrix.T, shift])
    absorbance = cv2.transform(cv2.LUT(pixels, ABSORBANCE), affine.astype(np.float32))
    light: Any = cv2.exp(-absorbance)
    light *= 256
    light -= 1
    return np.asarray(np.rint(np.clip(light, 0, 255)), np.uint8)
