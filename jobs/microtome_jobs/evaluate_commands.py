"""`microtome evaluate`. Heavy imports wait until a command runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microtome.config import Precision
from microtome.console import (
    ConfigOption,
    JsonOption,
    err,
    print_json,
    print_table,
    reporting,
)
from microtome.errors import SettingError

if TYPE_CHECKING:
    from microtome.evaluation.contenders import Asked
    from microtome.evaluation.evaluate import Evaluation

app = typer.Typer(no_args_is_help=True)

EPILOG = r"""
Examples:

  microtome evaluate --list

  microtome evaluate folder --data patches --group patient --model models/mine --peers

  microtome evaluate folder --data patches --group '-(?P<patient>\d+)-' --page quality.html

  microtome evaluate kimia24c --data /data/kimia24c --model timm:resnet50.a1_in1k --json

  microtome evaluate atlas --data atlas:s3://bucket/atlas#diagnosis --model tissue

  microtome evaluate folder --vectors features_uni_v1 --labels slides.csv --group case_id

Exit code: 0 judged; 2 a wrong setting; 1 the data, the model or the vectors can't be judged; 130
interrupted: vectors that were made are kept, and the same command goes on from there.
"""


@app.command(epilog=EPILOG)
def evaluate(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    protocol: Annotated[
        str | None,
        typer.Argument(help="Who asks whom: see --list.", metavar="PROTOCOL", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder or URI of the labelled images, KIND:PATH, or atlas:URI#COLUMN.",
            metavar="PATH|SPEC",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="What to judge; may be repeated. Of an atlas, a model whose vectors it holds.",
            metavar="NAME|FOLDER",
            show_default="tissue, or the atlas's own",
        ),
    ] = None,
    vectors: Annotated[
        str | None,
        typer.Option(
            help="Judge given vectors: .npz, .parquet, or a folder of HDF5 as TRIDENT and CLAM "
            "write it.",
            metavar="FILE",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="For HDF5: CSV or Parquet of slide_id, label, and maybe group and split.",
            metavar="FILE",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Who belongs together: a column of the manifest, the atlas or the vectors' file, "
            "or a regular expression that finds the slide or patient in an image's folder/name.",
            metavar="COLUMN|REGEX",
            show_default="as the data says",
        ),
    ] = None,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Beside them: a colour histogram and random vectors."),
    ] = False,
    k: Annotated[
        list[int] | None,
        typer.Option(
            "-k", "--k", help="Neighbours to look at; may be repeated.", show_default="1 2 4 5 8 10"
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Draw at most so many images, for a first look.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds, draws and random vectors.")] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder where vectors are kept, so that a second run is quick. Delete it to "
            "empty it: all in it can be made again.",
            show_default="~/.cache/microtome/evaluation",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Write FILE.html: figures, and pictures of some images with their file names and "
            "slide or patient ids. Mind who may see these.",
            metavar="FILE",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, or a GPU as torch names it.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of the network; auto is bf16 on a GPU.")
    ] = "auto",
    allow_licence: Annotated[
        list[str] | None,
        typer.Option(help="Allow weights under this non-permissive licence; may be repeated."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the protocols.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say how good a model's search is, by one specification of every metric.

    Leaves slides and patients out where somebody says which images are whose, looks for leakage,
    and gives every figure a 95 % interval.
    """
    with reporting(as_json):
        if list_:
            list_protocols(as_json=as_json)
            return
        from microtome.evaluation.contenders import Asked
        from microtome.evaluation.embedding import default_cache
        from microtome.evaluation.metrics import KS
        from microtome.evaluation.page import check_page_path
        from microtome.evaluation.protocols import protocol_named
        from microtome.evaluation.report import to_json
        from microtome.models.encoder import EncoderOptions

        if protocol is None:
            raise SettingError("name a protocol", remedy="`microtome evaluate --list` lists them.")
        if page is not None:
            check_page_path(page)
        asked = Asked(
            protocol=protocol_named(protocol),
            data=data,
            vectors=vectors,
            labels=labels,
            models=tuple(model or ()),
            group=group,
            peers=peers,
            limit=limit,
            ks=tuple(sorted({*k})) if k else KS,
            seed=seed,
            cache=cache or default_cache(),
            options=EncoderOptions(device, precision, tuple(allow_licence or ())),
        )
        evaluation = run(asked)
        if as_json:
            print_json(to_json(evaluation))
        else:
            print_evaluation(evaluation)
        if page is not None:
            publish(page, evaluation)


def publish(page: Path, evaluation: Evaluation) -> None:
    """Write the page. On stdout the results are out already: all else is said on stderr."""
    from microtome.evaluation.page import write_page

    with reporting(as_json=False):
        write_page(page, evaluation)
    err.print(f"wrote {page}", style="dim", markup=False, highlight=False)


def run(asked: Asked) -> Evaluation:
    """Embed and judge, with bars that show how far it is, and how long it will take."""
    from rich.progress import Progress

    from microtome.evaluation.contenders import gather
    from microtome.evaluation.evaluate import evaluate as judge

    with Progress(console=err, transient=True) as bar:

        def track(name: str, total: int) -> Callable[[int], object]:
            task = bar.add_task(name, total=total)
            return lambda more: bar.advance(task, more)

        collection, contenders = gather(asked, track)
        return judge(
            asked.protocol, collection, contenders, ks=asked.ks, seed=asked.seed, track=track
        )


def list_protocols(*, as_json: bool) -> None:
    """Print the protocols, and with JSON their definitions."""
    from microtome.evaluation.protocols import PROTOCOLS

    rows = [{"protocol": one.name, "about": one.about} for one in PROTOCOLS.values()]
    if as_json:
        definitions = [row | {"definition": PROTOCOLS[row["protocol"]].definition} for row in rows]
        print_json({"protocols": definitions})
    else:
        print_table(f"{len(rows)} protocols", rows, ["protocol", "about"])


def print_evaluation(evaluation: Evaluation) -> None:
    """Print a table for each arm, then what must be said beside it."""
    from microtome.console import out
    from microtome.evaluation.report import drawn_from, sentences, table_metrics, table_rows

    for arm in evaluation.arms:
        drawn = drawn_from(evaluation, arm)
        interval = f" (95 % interval, {drawn})" if drawn else ""
        title = f"{evaluation.collection.name}, {arm.name}: %{interval}"
        columns = ["model", *table_metrics(evaluation)]
        print_table(title, table_rows(evaluation, arm), columns)
        out.print()
    for sentence in sentences(evaluation):
        err.print(sentence, style="yellow", markup=False, highlight=False)
