"""`microtome token`: make, list and revoke what lets people and programs ask a server."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from microtome.console import JsonOption, err, print_json, print_table, reporting

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the tokens of a server.")

TokensOption = Annotated[
    str, typer.Option("--tokens", help="File or s3:// URI that holds them.", metavar="FILE")
]

MAKE_EPILOG = """
Examples:

  microtome token make viewer --tokens tokens.json

  microtome token make north --tokens tokens.json --rows "site = north" --expires-days 90

  microtome token make grafana --tokens tokens.json --role operator

The token is printed once; the file holds its hash. A running server takes it within a second.
"""


@app.command(epilog=MAKE_EPILOG)
def make(  # noqa: PLR0913, PLR0917 - a command's flags are its interface
    name: Annotated[
        str, typer.Argument(help="Whose it is; the audit log shows it.", metavar="NAME")
    ],
    tokens: TokensOption,
    role: Annotated[
        Literal["reader", "operator"], typer.Option(help="An operator sees metrics, too.")
    ] = "reader",
    rows: Annotated[
        list[str] | None,
        typer.Option(
            help="Only what fulfils this exists for it, such as `site = north`, `age >= 60` or "
            "`site in north, south`, over columns of the manifest; may be repeated.",
            metavar="CONDITION",
            show_default="everything",
        ),
    ] = None,
    expires_days: Annotated[
        float | None, typer.Option(help="Days until it is refused.", show_default="never")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second.", show_default="the server's")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it."""
    with reporting(as_json):
        from microtome_serve.filters import parse_condition
        from microtome_serve.tokens import TokenBook, Wanted, token_facts

        limits = tuple(parse_condition(one) for one in rows or ())
        wanted = Wanted(name, role, limits, rate, expires_days)
        token, secret = TokenBook(tokens).make(wanted)
        if as_json:
            print_json({"token": secret, **token_facts(token, datetime.now(UTC))})
        else:
            sys.stdout.write(f"{secret}\n")
            err.print(f"made token {token.id}; it is shown only now", style="dim", markup=False)


@app.command("list")
def list_tokens(tokens: TokensOption, as_json: JsonOption = False) -> None:
    """List the tokens of a file, without themselves."""
    with reporting(as_json):
        from microtome_serve.tokens import TokenBook, token_facts

        now = datetime.now(UTC)
        facts = [token_facts(one, now) for one in TokenBook(tokens).read()]
        if as_json:
            print_json({"tokens": facts})
            return
        shown = [
            one | {"rows": " and ".join(_said(each) for each in one["rows"]) or "all"}
            for one in facts
        ]
        columns = ["id", "name", "role", "rows", "status", "created", "expires", "rate_per_s"]
        print_table(f"{len(facts)} tokens", shown, columns)


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="See `microtome token list`.", metavar="ID")],
    tokens: TokensOption,
    as_json: JsonOption = False,
) -> None:
    """Refuse a token from now on; a running server does so within a second."""
    with reporting(as_json):
        from microtome_serve.tokens import TokenBook, token_facts

        token = TokenBook(tokens).revoke(token_id)
        if as_json:
            print_json(token_facts(token, datetime.now(UTC)))
        else:
            err.print(f"revoked {token.id} ({token.name})", markup=False, highlight=False)


def _said(condition: dict[str, object]) -> str:
    return f"{condition['field']} {condition['operator']} {condition['value']}"
