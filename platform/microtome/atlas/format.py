"""What an atlas says of itself in the schema metadata of `tiles`, and how an older one is renewed.

    format 1   grid
    format 2   and the least tissue of a tile; programs of this format write by the lease alone

A newer format than this program's is refused. An older one is read as it is; the first job that
writes to it renews it, and from then on older programs refuse it: they know nothing of the lease.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import lance

from microtome.atlas import schema
from microtome.atlas.tables import newest_table, open_table
from microtome.config import GridSettings
from microtome.errors import AtlasMismatch

if TYPE_CHECKING:
    from microtome.atlas.writer import Writer

_VERSION = "microtome:format_version"
_GRID = "microtome:grid"
_MIN_TISSUE = "microtome:min_tissue"


@dataclass(frozen=True, slots=True)
class Format:
    """How the tiles of an atlas were cut.

    Attributes:
        version: `schema.FORMAT_VERSION` of the program that made or renewed it.
        grid: where tiles lie.
        min_tissue: least fraction of a tile that is tissue; None where format 1 doesn't say.
    """

    version: int
    grid: GridSettings
    min_tissue: float | None

    @classmethod
    def of(cls, uri: str, metadata: Mapping[bytes, bytes] | None) -> Self:
        """What the schema metadata of `tiles` says.

        Raises:
            AtlasMismatch: it is no atlas of Microtome, or of a newer format.
        """
        said = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
        try:
            version = int(said[_VERSION])
            grid = GridSettings(**json.loads(said[_GRID]))
            min_tissue = float(said[_MIN_TISSUE]) if _MIN_TISSUE in said else None
        except (KeyError, ValueError, TypeError):
            raise AtlasMismatch(
                f"the tables at {uri} were not made by Microtome", remedy="Name another URI."
            ) from None
        if version > schema.FORMAT_VERSION:
            raise AtlasMismatch(
                f"the atlas {uri} has format {version}, this program reads up to "
                f"{schema.FORMAT_VERSION}",
                remedy="Update Microtome.",
            )
        return cls(version, grid, min_tissue)

    def to_metadata(self) -> dict[str, str]:
        """The schema metadata of a table."""
        said = {_VERSION: str(self.version), _GRID: json.dumps(asdict(self.grid))}
        return said | ({} if self.min_tissue is None else {_MIN_TISSUE: repr(self.min_tissue)})


def renew(writer: Writer) -> None:
    """Bring an atlas of an older format, if there is one, up to this program's.

    Raises:
        AtlasMismatch: it is of a newer format.
        AtlasWriteFailed: the store refuses the write.
    """
    tiles = open_table(writer.uri, "tiles")
    if tiles is None:
        return
    found = Format.of(writer.uri, tiles.schema.metadata)
    if found.version == schema.FORMAT_VERSION:
        return
    renewed = Format(schema.FORMAT_VERSION, found.grid, _min_tissue_asked_for(writer.uri))

    def say_so(dataset: lance.LanceDataset) -> None:
        dataset.update_schema_metadata(renewed.to_metadata())

    writer.transact("tiles", say_so)


def _min_tissue_asked_for(uri: str) -> float | None:
    """What the newest run that cut tiles was asked for."""
    runs = newest_table(uri, "runs").to_table(columns=["run_id", "settings"])
    for settings in runs.sort_by([("run_id", "descending")])["settings"].to_pylist():
        asked = json.loads(settings).get("min_tissue")
        if asked is not None:
            return float(asked)
    return None
