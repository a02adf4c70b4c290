"""A small archive of good and broken slides, and what an indexing job is told of it."""

from __future__ import annotations

from pathlib import Path

from microtome.atlas.atlas import Atlas
from microtome.atlas.reading import list_slides
from microtome.config import GridSettings, IndexSettings
from microtome_jobs.made.slides import MadeArchive, MadeSpec, make_slides

GRID = GridSettings(mpp=1.0)


def make_archive(folder: Path) -> MadeArchive:
    """Two slides, and those that can't be indexed."""
    return make_slides(folder, MadeSpec(slides=2, side_px=2048))


def settings_for(archive: MadeArchive, atlas: Path) -> IndexSettings:
    """Its settings, to index it into an atlas."""
    return IndexSettings(
        sources=(str(archive.folder),), atlas=str(atlas), manifest=str(archive.manifest), grid=GRID
    )


def causes(atlas: Atlas) -> dict[str, str]:
    """Why each slide wasn't indexed, or how it ended."""
    return {row["slide_id"]: row["cause"] or row["status"] for row in list_slides(atlas)}
