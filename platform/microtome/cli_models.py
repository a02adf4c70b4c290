"""`microtome model`: which models there are, what they are and cost, and bringing in others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from microtome.console import (
    JsonOption,
    LicencesOption,
    err,
    out,
    print_json,
    print_table,
    reporting,
)
from microtome.errors import SettingError

if TYPE_CHECKING:
    from microtome.models.card import ModelCard

app = typer.Typer(
    name="model", help="List, show, measure and convert models.", no_args_is_help=True
)

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="`tissue`, a model folder (or its s3:// URI), or timm:NAME.", metavar="MODEL"
    ),
]

LIST_EPILOG = """
Examples:

  microtome model list

  microtome model list checkpoints --json
"""
SHOW_EPILOG = """
Examples:

  microtome model show tissue

  microtome model show s3://bucket/lgffem --json
"""
PROFILE_EPILOG = """
Examples:

  microtome model profile cgd                    # the published table of CGD

  microtome model profile lgffem                 # LGFFEM on the reference's backbones

  microtome model profile timm:resnet50 --json
"""
CONVERT_EPILOG = """
Examples:

  microtome model convert best.pth lgffem --settings backbone.yaml neck.yaml head.yaml

  microtome model convert lgffem --dim 256 lgffem-256
"""


@app.command("list", epilog=LIST_EPILOG)
def list_command(
    folder: Annotated[
        str | None,
        typer.Argument(help="A folder to look for checkpoints in, at any depth.", metavar="FOLDER"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models that ship, the names that others go by, and a folder's checkpoints."""
    with reporting(as_json):
        from microtome.models.listing import list_models

        rows = list_models(folder)
        if as_json:
            print_json({"models": rows})
        else:
            print_table("models", rows, ["name", "kind", "dim", "mpp", "licence", "about"])


@app.command(epilog=SHOW_EPILOG)
def show(
    model: ModelArgument, allow_licence: LicencesOption = None, as_json: JsonOption = False
) -> None:
    """Show a model's card, after checking that its weights are the card's."""
    with reporting(as_json):
        card = _checked_card(model, allow_licence or ())
        if as_json:
            print_json(card.to_facts())
        else:
            _print_card(card)


@app.command(epilog=PROFILE_EPILOG)
def profile(
    model: Annotated[
        str,
        typer.Argument(help="`cgd`, `lgffem`, or any model's name or folder.", metavar="MODEL"),
    ],
    as_json: JsonOption = False,
) -> None:
    """Count parameters and operations for one image; needs no weights.

    A convolution counts its multiply-accumulates, a batch norm 2 an element, a linear map
    (2 · in - 1) · out, all else nothing: the rule of CGD's published table.
    """
    with reporting(as_json):
        from microtome.models.profile import cgd_table, lgffem_table, profile_model

        tables = {"cgd": cgd_table, "lgffem": lgffem_table}
        rows = tables[model]() if model in tables else [profile_model(model)]
        if as_json:
            print_json({"rows": rows})
        else:
            print_table(f"{model}: Params | FLOPs", rows, list(rows[0]))


@app.command(epilog=CONVERT_EPILOG)
def convert(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    source: Annotated[
        str,
        typer.Argument(
            help="A .pth checkpoint of the published LGFFEM, or a model folder to shorten.",
            metavar="SOURCE",
        ),
    ],
    target: Annotated[str, typer.Argument(help="The model folder to write.", metavar="OUT_FOLDER")],
    settings: Annotated[
        tuple[str, str, str] | None,
        typer.Option(
            help="The three YAML files that the checkpoint was trained with.",
            metavar="BACKBONE NECK HEAD",
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="Weights of the backbone, which the checkpoint hasn't: hub or file:PATH.",
            metavar="SOURCE",
        ),
    ] = "hub",
    licence: Annotated[
        str, typer.Option(help="SPDX name of the checkpoint's own licence.", metavar="NAME")
    ] = "unknown",
    dim: Annotated[
        int | None, typer.Option(help="Shorten a model folder to this many values.")
    ] = None,
    allow_licence: LicencesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a checkpoint of the published LGFFEM, or a longer model, into a model folder."""
    with reporting(as_json):
        _check_target(source, target)
        if settings is not None and dim is None:
            from microtome.models.backbone import WeightSource
            from microtome.models.conversion import Conversion, convert_checkpoint

            allowed = tuple(allow_licence or ())
            conversion = Conversion(
                source, settings, WeightSource.parse(backbone), licence, allowed
            )
            card = convert_checkpoint(conversion, target)
        elif dim is not None and settings is None:
            from microtome.models.encoder import EncoderOptions
            from microtome.models.shorten import shorten_checkpoint

            options = EncoderOptions(allow_licences=tuple(allow_licence or ()))
            card = shorten_checkpoint(source, target, dim, options)
        else:
            raise SettingError(
                "convert takes either --settings, for a .pth checkpoint, or --dim, for a folder"
            )
        if as_json:
            print_json({"folder": target, "card": card.to_facts()})
        else:
            _print_card(card)
            err.print(f"wrote {target}", style="dim", markup=False)


def _check_target(source: str, target: str) -> None:
    from microtome.slides.storage import is_remote

    if is_remote(target):
        raise SettingError(
            f"OUT_FOLDER {target} is in a store; models are written to a folder of this machine",
            remedy="Copy that folder's two files to the store.",
        )
    if Path(target).exists() and not Path(target).is_dir():
        raise SettingError(f"OUT_FOLDER {target} is a file")
    if Path(target).resolve() == Path(source).resolve():
        raise SettingError(f"OUT_FOLDER {target} is the model to convert")


def _checked_card(model: str, allow_licence: Sequence[str]) -> ModelCard:
    """A card whose weights were looked at; that of a folder under any licence, to be read."""
    from microtome.models.registry import EncoderOptions, folder_card, load_card
    from microtome.slides.storage import is_remote

    licences = list(allow_licence)
    if Path(model).is_dir() or is_remote(model):
        licences.append(folder_card(model).licence)
    return load_card(model, EncoderOptions(allow_licences=tuple(licences)))


def _print_card(card: ModelCard) -> None:
    """Print a card on one screen."""
    preparation = card.preprocessing
    lines: Mapping[str, Any] = {
        "name": f"{card.name} ({card.model_id})",
        "vectors": f"{card.dim} values",
        "input": f"{preparation.input_px} px, mean {preparation.mean}, std {preparation.std}",
        "mpp": f"{card.mpp:g} µm per px" if card.mpp else "any",
        "licence": card.licence,
        "trained on": card.training_data,
        "metrics": ", ".join(f"{k} {v:.4g}" for k, v in card.metrics.items()) or "–",
        "architecture": ", ".join(f"{k} {v}" for k, v in card.architecture.items()),
        "weights": card.weights_sha256,
        "notes": card.notes or "–",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in lines.items():
        table.add_row(f"[bold]{name}[/]", escape(value))
    out.print(table, highlight=False)
