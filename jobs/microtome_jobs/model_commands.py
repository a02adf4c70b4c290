"""`microtome embed` and `drop-model`: which models' vectors an atlas holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from microtome.config import EmbedSettings
from microtome.console import (
    AtlasOption,
    BatchSizeOption,
    ConfigOption,
    CpusPerWorkerOption,
    JsonOption,
    LicencesOption,
    PrecisionOption,
    WaveSlidesOption,
    WaveSOption,
    WorkersOption,
    err,
    print_json,
    reporting,
)
from microtome_jobs.commands import report_run

app = typer.Typer(no_args_is_help=True)

EMBED_EPILOG = """
Examples:

  microtome embed --model models/mine --atlas atlas

  microtome embed --model timm:resnet50.a1_in1k --atlas s3://bucket/atlas --json

Exit code: 0 every tile has a vector; 3 some slides could not be read (`microtome slides --status
failed` says why); 2 a wrong setting; 1 the job could not run; 130 interrupted. Run it again to go
on.
"""

DROP_EPILOG = """
Examples:

  microtome drop-model 1f0c6a7e42d9 --atlas atlas

  microtome maintain --atlas atlas        # reclaims the bytes

Exit code: 0 it is gone; 2 slides would be left without any vector, or the name is that of several;
1 the atlas holds no such model, or the store refused: run it again.
"""


@app.command(epilog=EMBED_EPILOG)
def embed(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    atlas: AtlasOption,
    model: Annotated[
        str,
        typer.Option(
            help="`tissue`, `starter`, a model folder or its URI, or a timm model.",
            metavar="NAME|FOLDER",
        ),
    ],
    batch_size: BatchSizeOption = 64,
    workers: WorkersOption = 0,
    cpus_per_worker: CpusPerWorkerOption = 0,
    precision: PrecisionOption = "auto",
    wave_slides: WaveSlidesOption = 16,
    wave_s: WaveSOption = 30.0,
    allow_licence: LicencesOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Give the tiles of an atlas the vectors of a further model.

    Reads the slides again where they lie, at the tiles' stored places. Other models' vectors and
    indices stay as they are. Run again, it does only what is missing.
    """
    with reporting(as_json):
        settings = EmbedSettings(
            atlas=atlas,
            model=model,
            batch_size=batch_size,
            workers=workers,
            cpus_per_worker=cpus_per_worker,
            precision=precision,
            wave_slides=wave_slides,
            wave_s=wave_s,
            allow_licences=tuple(allow_licence or ()),
        )
        from microtome.engine.embed import run_embed

        report_run(lambda: run_embed(settings), as_json=as_json)


@app.command(epilog=DROP_EPILOG)
def drop_model(
    model: Annotated[
        str, typer.Argument(help="Its id, or its name: see `microtome info`.", metavar="MODEL")
    ],
    atlas: AtlasOption,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove a model's vectors from an atlas; slides that have no others keep it from going."""
    with reporting(as_json):
        from microtome.atlas.atlas import Atlas
        from microtome.atlas.dropping import drop_model as drop
        from microtome.atlas.dropping import find_model
        from microtome.atlas.writer import open_writer

        find_model(Atlas.open(atlas), model)  # before the lease is taken
        with open_writer(atlas, "drop-model") as writer:
            dropped = drop(writer, model)
        if as_json:
            print_json(asdict(dropped))
        else:
            err.print(
                f"dropped {dropped.name} ({dropped.model_id}); left: {', '.join(dropped.left)}",
                markup=False,
                highlight=False,
            )
