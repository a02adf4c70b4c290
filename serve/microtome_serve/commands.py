"""`microtome serve` and `microtome token`. Heavy imports wait until a command runs."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microtome.console import AtlasOption, ConfigOption, JsonOption, err, print_json, reporting
from microtome_serve import token_commands

if TYPE_CHECKING:
    from microtome_serve.config_file import Place
    from microtome_serve.settings import ServeSettings

app = typer.Typer(no_args_is_help=True)
app.add_typer(token_commands.app, name="token")

AuditOption = Annotated[
    str,
    typer.Option(
        help="Write a line for each request there; - is the standard output of Ray's processes.",
        metavar="FILE|-",
        show_default="Ray's logs",
    ),
]

SERVE_EPILOG = """
Examples:

  microtome serve --atlas atlas --open

  microtome token make viewer --tokens tokens.json
  microtome serve --atlas s3://bucket/atlas --tokens tokens.json --host 0.0.0.0

  microtome serve --atlas s3://bucket/atlas --tokens s3://bucket/tokens.json --write-config serve.yaml

Ctrl-C or SIGTERM ends it, once the requests under way are answered. Exit code: 130 then; 2 a wrong
setting, 1 it could not start or go on.
"""  # noqa: E501 - a command that is copied stands in one line


@app.command(epilog=SERVE_EPILOG)
def serve(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    atlas: AtlasOption,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model to embed with.", metavar="NAME|FOLDER", show_default="the atlas's own"
        ),
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option(
            help="A model to roll out beside it, see `/v1/rollout`.", metavar="NAME|FOLDER"
        ),
    ] = None,
    shadow: Annotated[
        float, typer.Option(help="Share of questions that the candidate answers, too, unseen.")
    ] = 0.0,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8000,
    tokens: Annotated[
        str,
        typer.Option(
            help="File or s3:// URI of the tokens that may ask, see `microtome token`.",
            metavar="FILE",
            show_default="",
        ),
    ] = "",
    open_to_all: Annotated[
        bool, typer.Option("--open", help="Ask for no tokens; only on a loopback address.")
    ] = False,
    allow_licence: Annotated[
        list[str] | None,
        typer.Option(
            help="Allow weights under this non-permissive licence; may be repeated. What was "
            "allowed for indexing is allowed."
        ),
    ] = None,
    audit: AuditOption = "",
    front: Annotated[
        bool,
        typer.Option(
            help="HAProxy before the server, where Ray brings it. Without it, answers take longer, "
            "under ten times the load most wait for seconds, and slow headers are never given up."
        ),
    ] = True,
    write_config: Annotated[
        Path | None,
        typer.Option(help="Write a file for `serve deploy`, and start nothing.", metavar="FILE"),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Answer searches over HTTP, on a local Ray or the cluster that RAY_ADDRESS names."""
    with reporting(as_json):
        from microtome_serve.access import AuthSettings
        from microtome_serve.config_file import Place
        from microtome_serve.settings import Scale, ServeSettings

        place = Place(host, port)
        settings = ServeSettings(
            atlas,
            model=model,
            candidate=candidate,
            shadow=shadow,
            allow_licences=tuple(allow_licence or ()),
            auth=AuthSettings(open=open_to_all, tokens=tokens),
            audit=audit,
            embedder=Scale(cpus=max(1, (os.cpu_count() or 2) // 2), max_ongoing=64),
        )
        if write_config is not None:
            _write_config(write_config, settings, place)
        else:
            _serve(settings, place, front, as_json)


def _write_config(path: Path, settings: ServeSettings, place: Place) -> None:
    from microtome_serve.config_file import config_text

    settings.auth.check(place.host)
    path.write_text(config_text(settings.placed(), place), encoding="utf-8")
    err.print(f"wrote {path}; serve deploy {path}  starts it", style="dim", markup=False)


def _serve(settings: ServeSettings, place: Place, front: bool, as_json: bool) -> None:
    from microtome_serve.serving import checked, serving, wait_for_end

    settings = checked(settings, place)
    err.print("starting Ray and the server …", style="dim")
    with redirect_stdout(sys.stderr), serving(settings.placed(), place, front=front):
        _say_where(settings, place, as_json)
        wait_for_end()


def _say_where(settings: ServeSettings, place: Place, as_json: bool) -> None:
    from microtome_serve.serving import guarded_by

    if as_json:
        with redirect_stdout(sys.__stdout__):
            print_json({"url": place.url, "atlas": settings.atlas, "model": settings.model})
            sys.stdout.flush()
        return
    token = "" if settings.auth.open else " -H 'Authorization: Bearer TOKEN'"
    err.print(f"serving {settings.atlas} at {place.url}", style="bold green", markup=False)
    for line in (
        f"curl {place.url}/v1/atlas{token}",
        f"curl {place.url}/v1/search/image{token} -F images=@crop.png",
        f"The API is described at {place.url}/openapi.json; {place.url}/docs shows it, with "
        f"scripts from the internet. {guarded_by(os.environ)}",
        "A token asks as often as it likes, unless it was made with a rate. Lines for an audit go "
        f"to {settings.audit or 'the logs of Ray'}. --write-config shows all limits.",
    ):
        err.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
