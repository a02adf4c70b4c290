"""Jobs that end between two of their commits, in this process: quicker than killing another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from microtome.atlas.writer import Writer


class Killed(BaseException):
    """The process dies here."""


@contextmanager
def killed_after(commits: int) -> Iterator[None]:
    """End the block after so many commits, as if its process died; it must try one more."""
    transact, left = Writer.transact, commits

    def transact_and_die(writer: Writer, *asked: object, **options: bool) -> object:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        return transact(writer, *asked, **options)

    with patch.object(Writer, "transact", transact_and_die), pytest.raises(Killed):
        yield
