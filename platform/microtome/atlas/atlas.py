"""The atlas as a whole: four tables under one URI that know their grid and their models.

Whatever identifies an atlas stands in the tables themselves, where any reader of Lance finds it:
format version, grid and least tissue in the schema metadata of `tiles` (see `format`), each model's
card in the metadata of its vector column. `tiles` is made last, so an atlas exists exactly when all
of it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import lance
import pyarrow as pa

from microtome.atlas import schema
from microtome.atlas.format import Format
from microtome.atlas.storage import check_uri, location, patiently, storage_options
from microtome.atlas.tables import lost_table, open_table, reading
from microtome.atlas.versions import resolve
from microtome.atlas.writer import Writer
from microtome.config import GridSettings
from microtome.errors import AtlasMismatch, AtlasNotFound, ModelMismatch
from microtome.models.card import ModelCard

if TYPE_CHECKING:
    import lancedb

MPP_TOLERANCE = 0.01
MANIFEST_COLUMN = {b"doc": b"from the manifest"}


@dataclass(frozen=True, slots=True)
class Atlas:
    """An atlas as it was when opened; its tables are opened anew, at their newest, when asked for.

    Attributes:
        uri: as the user named it.
        grid: where its tiles lie.
        columns: the manifest columns, which `tiles` and `slides` both hold.
        models: card of each model that has a vector column, by model id.
        min_tissue: least fraction of a tile that is tissue; None where format 1 doesn't say.
        format_version: `schema.FORMAT_VERSION` of the program that made or renewed it.
        pinned: version of each table, where it is the atlas as it once was: see `at`.
    """

    uri: str
    grid: GridSettings
    columns: pa.Schema
    models: Mapping[str, ModelCard]
    min_tissue: float | None = None
    format_version: int = schema.FORMAT_VERSION
    pinned: Mapping[str, int] | None = None

    @classmethod
    def open(cls, uri: str) -> Self:
        """Open an atlas that exists; writes nothing.

        Raises:
            AtlasNotFound: no atlas lies there.
            AtlasMismatch: it is no atlas of Microtome, or of a newer version.
            AtlasError: the store refuses to read it.
            SettingError: the URI holds credentials.
        """
        check_uri(uri)
        tiles = open_table(uri, "tiles")
        if tiles is None:
            raise AtlasNotFound(
                f"no atlas lies at {uri}",
                remedy="Check the URI, or make an atlas with `microtome index SOURCE --atlas URI`.",
            )
        return cls._described(uri, tiles.schema)

    @classmethod
    def open_or_create(
        cls,
        writer: Writer,
        grid: GridSettings,
        card: ModelCard,
        columns: pa.Schema,
        min_tissue: float = 0.5,
    ) -> Self:
        """Open the atlas to write to it, or make it; adds manifest columns that are new, as nulls.

        A creation or addition that was interrupted half-way is finished.

        Args:
            writer: of the atlas, or of where it will be.
            grid: the grid its tiles have, or will have.
            card: the model whose vectors it holds, or will hold.
            columns: the manifest's columns beyond slide id, case id, uri and mpp.
            min_tissue: least fraction of a tile that is tissue.

        Raises:
            AtlasMismatch: its tiles were cut otherwise, or it has a column of another type.
            ModelMismatch: it holds another model's vectors, or the model is for another mpp.
            AtlasWriteFailed: the store refuses the write.
        """
        check_mpp(card, grid)
        _check_names(columns)
        tiles = open_table(writer.uri, "tiles")
        if tiles is None:
            _create(writer, Format(schema.FORMAT_VERSION, grid, min_tissue), card, columns)
        else:
            found = cls._described(writer.uri, tiles.schema)
            found._check_cut(grid, min_tissue)
            found._check_model(card)
            for table in ("slides", "tiles"):
                writer.transact(table, partial(add_columns, writer.uri, columns))
        return cls.open(writer.uri)

    @classmethod
    def _described(cls, uri: str, tiles: pa.Schema) -> Self:
        """What the schema of `tiles` says about the atlas."""
        said = Format.of(uri, tiles.metadata)
        further = [field for field in tiles if field.name not in schema.TILES.names]
        vectors = [field for field in further if field.name.startswith(schema.VECTOR_PREFIX)]
        cards = [ModelCard.from_json(field.metadata[schema.CARD_KEY].decode()) for field in vectors]
        return cls(
            uri,
            said.grid,
            pa.schema([field for field in further if field not in vectors]),
            {card.model_id: card for card in cards},
            said.min_tissue,
            said.version,
        )

    def at(self, when: str) -> Self:
        """The atlas as it once was, for reading: each table stays at one version.

        Args:
            when: a run's id or how it begins, a version number of `tiles`, or a time; see
                `versions.resolve`.

        Raises:
            AtlasVersionNotFound: there is no such state, or it held what was forgotten since.
        """
        pinned = resolve(self.uri, when)
        then = open_table(self.uri, "tiles", pinned["tiles"])
        if then is None:
            raise lost_table(self.uri, "tiles")
        return replace(self._described(self.uri, then.schema), pinned=pinned)

    def _check_cut(self, grid: GridSettings, min_tissue: float) -> None:
        if grid != self.grid:
            raise AtlasMismatch(
                f"the atlas {self.uri} has the grid {self.grid.key}, not {grid.key}",
                remedy=f"Ask for mpp {self.grid.mpp:g}, tile-px {self.grid.tile_px} and stride-px "
                f"{self.grid.stride_px}, or name a new atlas.",
            )
        if self.min_tissue not in {None, min_tissue}:
            raise AtlasMismatch(
                f"the tiles of the atlas {self.uri} hold at least {self.min_tissue:g} tissue, not "
                f"{min_tissue:g}",
                remedy=f"Ask for --min-tissue {self.min_tissue:g}, or name a new atlas.",
            )

    def _check_model(self, card: ModelCard) -> None:
        if card.model_id not in self.models:
            held = ", ".join(f"{known.name} ({name})" for name, known in self.models.items())
            raise ModelMismatch(
                f"the atlas {self.uri} holds vectors of {held}, not of {card.name} "
                f"({card.model_id})",
                remedy="Use a model it holds, add this one with `microtome embed --model NAME`, or "
                "name a new atlas.",
            )

    @property
    def tiles(self) -> lance.LanceDataset:
        """The newest version of `tiles`."""
        return self.dataset("tiles")

    @property
    def slides(self) -> lance.LanceDataset:
        """The newest version of `slides`."""
        return self.dataset("slides")

    @property
    def work(self) -> lance.LanceDataset:
        """The newest version of `work`, the ledger."""
        return self.dataset("work")

    @property
    def runs(self) -> lance.LanceDataset:
        """The newest version of `runs`."""
        return self.dataset("runs")

    def dataset(self, table: str) -> lance.LanceDataset:
        """The newest version of one table, or the pinned one.

        Raises:
            AtlasError: the table is missing or can't be read.
        """
        found = open_table(self.uri, table, (self.pinned or {}).get(table))
        if found is None:
            raise lost_table(self.uri, table)
        return found

    def rows(self, table: str, **scan: Any) -> pa.Table:
        """Rows of one table; `scan` is what `lance.LanceDataset.to_table` takes.

        Raises:
            AtlasDamaged: one of its files can't be read.
            AtlasError: it is missing or can't be opened.
        """
        dataset = self.dataset(table)
        with reading(self.uri, table):
            return patiently(lambda: dataset.to_table(**scan))

    def table(self, table: str) -> lancedb.table.Table:
        """One table through lancedb, for searching."""
        import lancedb

        connection = lancedb.connect(
            location(self.uri), storage_options=storage_options(self.uri) or None
        )
        opened = connection.open_table(table)
        if self.pinned is not None:
            opened.checkout(self.pinned[table])
        return opened


def _create(writer: Writer, cut: Format, card: ModelCard, columns: pa.Schema) -> None:
    """Make the tables that are missing, `tiles` last."""
    manifest = [field.with_metadata(MANIFEST_COLUMN) for field in columns]
    planned = {
        "runs": schema.RUNS,
        "work": schema.WORK,
        "slides": pa.schema([*schema.SLIDES, *manifest]),
        "tiles": pa.schema([*schema.TILES, *manifest, schema.vector_field(card)]),
    }
    for table, columns_of_table in planned.items():
        left = open_table(writer.uri, table)
        if left is not None and left.count_rows():
            raise AtlasMismatch(
                f"the tables at {writer.uri} hold rows, but there is no table of tiles",
                remedy="Restore the folder tiles.lance from a backup, or name a new atlas.",
            )
        writer.create(table, columns_of_table.with_metadata(cut.to_metadata()))


def add_columns(uri: str, columns: pa.Schema, dataset: lance.LanceDataset) -> None:
    """Add the columns that a table lacks, as nulls; no data is rewritten."""
    present = dataset.schema
    for field in columns:
        if field.name in present.names and present.field(field.name).type != field.type:
            raise AtlasMismatch(
                f"the column {field.name!r} of the manifest holds {field.type}, in the atlas {uri} "
                f"it holds {present.field(field.name).type}",
                remedy="Rename the column, or write its values as the atlas has them.",
            )
    lacking = [field for field in columns if field.name not in present.names]
    if lacking:
        dataset.add_columns(pa.schema([field.with_metadata(MANIFEST_COLUMN) for field in lacking]))


def _check_names(columns: pa.Schema) -> None:
    taken = {*schema.TILES.names, *schema.SLIDES.names}
    for name in columns.names:
        if name in taken or name.startswith((schema.VECTOR_PREFIX, "_")):
            raise AtlasMismatch(
                f"the manifest's column {name!r} has a name that the atlas uses itself",
                remedy="Rename it.",
            )


def check_mpp(card: ModelCard, grid: GridSettings) -> None:
    """Raise `ModelMismatch` unless the model was made for the grid's mpp, or for any."""
    if card.mpp is not None and abs(card.mpp - grid.mpp) > MPP_TOLERANCE * grid.mpp:
        raise ModelMismatch(
            f"the model {card.name} was made for {card.mpp:g} µm per pixel, the grid has "
            f"{grid.mpp:g}",
            remedy=f"Ask for --mpp {card.mpp:g}, or choose another model.",
        )
