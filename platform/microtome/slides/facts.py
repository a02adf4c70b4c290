"""What every reader must establish before a pixel is read: resolution, dimensions, what is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from microtome.config import MppSettings
from microtome.errors import SlideImplausible, SlideWithoutMpp
from microtome.slides.slide import Level, MppSource, SlideRef

LEAST_MPP, MOST_MPP = 0.05, 100.0
"""A 100× oil objective reaches 0.1 µm per pixel; a flatbed scanner has some 10."""
MOST_ANISOTROPY = 1.1
MOST_OBJECTIVE = 200.0
MOST_SIDE_PX = 1 << 20
"""A whole slide of 75 mm at 0.1 µm has 750,000 pixels."""
OBJECTIVE_TIMES_MPP = 10.0
"""The usual 0.25 µm at 40× and 0.5 µm at 20×."""

KEPT_PROPERTIES = (
    "aperio.AppMag",
    "aperio.Filtered",
    "aperio.MPP",
    "aperio.StripeWidth",
    "dicom.Manufacturer",
    "dicom.ManufacturerModelName",
    "hamamatsu.Product",
    "hamamatsu.SourceLens",
    "leica.device-model",
    "leica.objective",
    "mirax.GENERAL.OBJECTIVE_MAGNIFICATION",
    "openslide.bounds-height",
    "openslide.bounds-width",
    "openslide.bounds-x",
    "openslide.bounds-y",
    "openslide.mpp-x",
    "openslide.mpp-y",
    "philips.DICOM_MANUFACTURER",
    "philips.DICOM_MANUFACTURERS_MODEL_NAME",
    "tiff.Make",
    "tiff.Model",
    "ventana.Magnification",
    "ventana.ScannerModel",
    "ventana.ScanRes",
)
"""Facts of the scanner. Everything else may name a patient, an operator, a place or a day."""
_SHORT = re.compile(r"[\w .,/+-]{1,64}")


def resolution(
    ref: SlideRef,
    stated: tuple[float | None, float | None],
    objective: float | None,
    settings: MppSettings,
) -> tuple[float, MppSource]:
    """µm per level-0 pixel and who says so: slide, manifest, objective, assumption, in that order.

    Args:
        ref: the slide as wanted, with the manifest's mpp.
        stated: mpp in x and y as the slide's header says.
        objective: magnification as the header says.
        settings: who else may say.

    Raises:
        SlideWithoutMpp: none of those allowed to say does.
    """
    if mpp := isotropic(*stated):
        return mpp, "slide"
    if ref.mpp is not None:
        return ref.mpp, "manifest"
    if settings.from_objective and objective:
        return OBJECTIVE_TIMES_MPP / objective, "objective"
    if settings.assume_mpp is not None:
        return settings.assume_mpp, "assumed"
    says = " or ".join(f"{value:g}" for value in stated if value is not None)
    raise SlideWithoutMpp(
        f"{ref.slide_id} doesn't say how large a pixel is"
        + (f" (its header's {says} µm can't be right)" if says else ""),
        remedy="Give µm per pixel in the manifest's column mpp, or for all such slides with "
        "--assume-mpp"
        + (f"; or take it from the objective ({objective:g}×) with" if objective else " or")
        + " --mpp-from-objective.",
    )


def isotropic(mpp_x: float | None, mpp_y: float | None) -> float | None:
    """One mpp for both directions; None where either is missing, absurd, or they disagree."""
    if mpp_x is None or mpp_y is None:
        return None
    least, most = sorted((mpp_x, mpp_y))
    if not LEAST_MPP <= least <= most <= MOST_MPP or most > MOST_ANISOTROPY * least:
        return None
    return (mpp_x + mpp_y) / 2


def believable_objective(objective: float | None) -> float | None:
    """The magnification, or None where no objective has it."""
    return objective if objective is not None and 0 < objective <= MOST_OBJECTIVE else None


def kept_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Those of a header's properties that are kept: on the allow-list, and short plain text."""
    return {
        name: properties[name]
        for name in KEPT_PROPERTIES
        if _SHORT.fullmatch(properties.get(name, ""))
    }


def check_levels(ref: SlideRef, levels: Sequence[Level]) -> None:
    """Raise `SlideImplausible` for dimensions that no scanner makes."""
    if not levels:
        raise SlideImplausible(f"{ref.slide_id} has no levels")
    for number, level in enumerate(levels):
        size = f"{level.width_px} × {level.height_px} px"
        if not (0 < level.width_px <= MOST_SIDE_PX and 0 < level.height_px <= MOST_SIDE_PX):
            problem = f"is {size} at level {number}"
        elif not level.downsample >= 1:
            problem = f"has a level {number} of {size} that is finer than level 0"
        else:
            continue
        raise SlideImplausible(
            f"{ref.slide_id} {problem}: no scanner makes that",
            remedy="The header is damaged; copy the slide again from where it was scanned.",
        )
