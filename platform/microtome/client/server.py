"""Where a server is and how it is asked, for both clients."""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit

from microtome.client.trying import Patience, Tries
from microtome.errors import SettingError

TOKEN: Final = "MICROTOME_TOKEN"  # noqa: S105 - the variable's name
PATIENT: Final = Patience()
ONCE: Final = Patience(tries=1)


class Server:
    """Where a server is, and how it is asked; the token is in no text of it."""

    def __init__(self, server: str, token: str | None, patience: Patience) -> None:
        place = urlsplit(server)
        if place.scheme not in {"http", "https"} or not place.hostname or "@" in place.netloc:
            raise SettingError(
                "a server is named by http://HOST or https://HOST, without credentials",
                remedy="Give the token by itself, or by the variable MICROTOME_TOKEN.",
            )
        self.server = server.rstrip("/")
        self._patience = patience
        self._headers = _authorization(token or os.environ.get(TOKEN))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"

    def _tries(self, patience: Patience | None) -> Tries:
        return Tries(self.server, patience or self._patience)

    def _options(self) -> dict[str, Any]:
        return {"base_url": self.server, "headers": self._headers}


def _authorization(token: str | None) -> dict[str, str]:
    if not token:
        return {}
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingError("the token holds characters that no token has")
    return {"Authorization": f"Bearer {token}"}
