"""What a manifest once said of slides, for a run that has no manifest or whose says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from microtome.atlas.atlas import Atlas
from microtome.slides.slide import SlideRef


def described(atlas: Atlas, refs: Sequence[SlideRef]) -> list[SlideRef]:
    """Slides with the case and manifest columns that the atlas holds of them, by their names.

    What a manifest says now stays as it says it.

    Raises:
        AtlasError: the table can't be read.
    """
    silent = {ref.slide_id for ref in refs if not ref.is_described}
    if not silent:
        return list(refs)
    names = ["slide_id", "case_id", *atlas.columns.names]
    held = {row.pop("slide_id"): row for row in atlas.rows("slides", columns=names).to_pylist()}
    known = silent & held.keys()
    return [_with(ref, held[ref.slide_id]) if ref.slide_id in known else ref for ref in refs]


def _with(ref: SlideRef, row: Mapping[str, Any]) -> SlideRef:
    columns = {name: value for name, value in row.items() if name != "case_id"}
    return replace(ref, case_id=row["case_id"], columns=columns, carried=True)
