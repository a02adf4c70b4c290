"""`microtome data`: which sets of labelled images there are, and what one holds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from microtome.console import JsonOption, err, out, print_json, print_table, reporting

if TYPE_CHECKING:
    from microtome.datasets.labelled import LabelledSet

app = typer.Typer(name="data", help="Look into sets of labelled images.", no_args_is_help=True)

MOST_LISTED = 50

SpecArgument = Annotated[
    str,
    typer.Argument(
        help="`KIND:PATH` as `microtome data list` names them, or `atlas:URI#COLUMN`.",
        metavar="SPEC",
    ),
]


@app.command("list")
def list_kinds(as_json: JsonOption = False) -> None:
    """List the kinds of sets that can be read, and where to get them."""
    with reporting(as_json):
        from microtome.datasets.catalogue import KINDS

        rows: list[dict[str, Any]] = [
            {"spec": f"{name}:PATH", "about": kind.about, "home": kind.home or None}
            for name, kind in KINDS.items()
        ]
        rows.append(
            {"spec": "atlas:URI#COLUMN", "about": "tiles of an atlas by a column", "home": None}
        )
        if as_json:
            print_json({"sets": rows})
        else:
            print_table("kinds of labelled sets", rows, ["spec", "about", "home"])


@app.command()
def show(spec: SpecArgument, as_json: JsonOption = False) -> None:
    """Say what a set holds: classes, splits, groups, resolution, and what is missing."""
    with reporting(as_json):
        from microtome.atlas.labelled import load_labelled

        facts = facts_of(load_labelled(spec))
        if as_json:
            print_json(facts)
        else:
            print_facts(facts)


@app.command("import-pannuke")
def import_pannuke(
    published: Annotated[str, typer.Argument(help="Folder of PanNuke's three folds.")],
    out_folder: Annotated[str, typer.Argument(help="Folder to make.", metavar="OUT")],
    python: Annotated[
        str,
        typer.Option(help="Python of PathML's environment.", envvar="MICROTOME_PATHML_PYTHON"),
    ] = ".venv-pathml/bin/python",
    as_json: JsonOption = False,
) -> None:
    """Turn PanNuke's folds into pictures and masks through PathML (`make pathml-env`)."""
    with reporting(as_json):
        from microtome.datasets.pathml import import_pannuke

        facts = facts_of(import_pannuke(published, out_folder, python))
        if as_json:
            print_json(facts)
        else:
            print_facts(facts)


def facts_of(labelled: LabelledSet) -> dict[str, Any]:
    """A set at a glance, as JSON values.

    Returns:
        name, home, mpp, images, `splits` (images by split), `classes` (rows of `class` and images
        by split), `groups` (how many there are, or None), grouped_by and notes.
    """
    names = labelled.samples["split"].to_pylist()
    counted = Counter(zip(labelled.labels.tolist(), names, strict=True))
    groups = set(labelled.groups) - {None}
    return {
        "name": labelled.name,
        "home": labelled.home,
        "mpp": labelled.mpp,
        "images": len(labelled),
        "splits": labelled.splits,
        "classes": [
            {"class": name, **{split: counted[label, split] for split in labelled.splits}}
            for label, name in enumerate(labelled.classes)
        ],
        "groups": len(groups) or None,
        "grouped_by": labelled.grouped_by,
        "notes": list(labelled.notes),
    }


def print_facts(facts: dict[str, Any]) -> None:
    """Print what a set holds on one screen; more than `MOST_LISTED` classes are only counted."""
    groups = f"{facts['groups']:,} (by {facts['grouped_by']})" if facts["groups"] else "nobody says"
    splits = ", ".join(f"{images:,} {split}" for split, images in facts["splits"].items())
    lines = {
        "set": facts["name"],
        "images": f"{facts['images']:,} ({splits})",
        "classes": f"{len(facts['classes']):,}",
        "groups": groups,
        "mpp": f"{facts['mpp']:g} µm per px" if facts["mpp"] else "nobody says",
        "home": facts["home"] or "–",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in lines.items():
        table.add_row(f"[bold]{name}[/]", escape(value))
    out.print(table, highlight=False)
    out.print()
    if len(facts["classes"]) <= MOST_LISTED:
        print_table("images of each class", facts["classes"], ["class", *facts["splits"]])
    for note in facts["notes"]:
        err.print(note, style="yellow", markup=False)
