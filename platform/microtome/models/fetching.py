"""Model folders that lie in an object store: copied to this machine once, and checked.

A copy is kept under the hash of its card, which names the weights by theirs: another model at the
same URI is another copy. Copies may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from microtome.errors import CheckpointInvalid, ModelError, ModelNotFound
from microtome.models.card import ModelCard
from microtome.models.checkpoint import CARD_FILE, WEIGHTS_FILE, read_weights
from microtome.slides.storage import explained, filesystem_of, is_remote, local_path

FOLDER_VARIABLE = "MICROTOME_MODELS_FOLDER"  # else `$XDG_CACHE_HOME/microtome/models`
BLOCK_BYTES = 32 << 20  # of a request


def stored_card(uri: str) -> ModelCard:
    """The card of a model in a store; the weights are not looked at.

    Raises:
        ModelNotFound: no card lies there.
        CheckpointInvalid: it is no valid one.
        ModelError: the store refuses, or can't be reached.
        SettingError: the URI holds a secret.
    """
    return _card(_card_text(uri), uri)


@contextmanager
def local_copy(name: str) -> Iterator[str]:
    """The model folder as one of this machine; what is wrong with a copy is said of its URI.

    Args:
        name: a local folder, which is given back as it is, or a URI.

    Raises:
        As `stored_card`; and CheckpointInvalid where the weights are missing or aren't the card's,
            ModelError where there is no room for them here.
    """
    if not is_remote(name):
        yield name
        return
    text = _card_text(name)
    folder = _cache() / hashlib.sha256(text).hexdigest()[:32]
    with _said_of(name, folder):
        if not folder.is_dir():
            _fetch(name, text, folder)
        yield str(folder)


@contextmanager
def _said_of(uri: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointInvalid as error:
        shutil.rmtree(folder, ignore_errors=True)  # it is fetched again the next time
        message = error.message.replace(str(folder), uri)
        raise CheckpointInvalid(message, remedy=error.remedy) from None


def _fetch(uri: str, text: bytes, folder: Path) -> None:
    """Make a copy that is whole, or none."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="unfinished-", dir=folder.parent) as scratch:
            part = Path(scratch) / "model"
            part.mkdir()
            (part / CARD_FILE).write_bytes(text)
            _download(f"{uri.rstrip('/')}/{WEIGHTS_FILE}", part / WEIGHTS_FILE)
            with _said_of(uri, part):
                read_weights(part, _card(text, uri))
            with suppress(OSError):  # another process was quicker
                part.rename(folder)
    except OSError as error:
        raise ModelError(
            f"the model {uri} can't be copied to {folder.parent}: {error.strerror}",
            remedy=f"Name a folder with room by {FOLDER_VARIABLE}.",
        ) from None


def _download(uri: str, target: Path) -> None:
    """Copy an object; only what the disk says is left as it is raised."""
    store, path = filesystem_of(uri)
    with ExitStack() as stack:
        with _of_store(uri, CheckpointInvalid):
            source = stack.enter_context(store.open(path, "rb", cache_type="none"))
        file = stack.enter_context(target.open("wb"))
        while True:
            with _of_store(uri, CheckpointInvalid):
                block = source.read(BLOCK_BYTES)
            if not block:
                return
            file.write(block)


def _card_text(uri: str) -> bytes:
    card = f"{uri.rstrip('/')}/{CARD_FILE}"
    store, path = filesystem_of(card)
    with _of_store(card, ModelNotFound):
        text: bytes = store.cat_file(path)
    return text


def _of_store(uri: str, missing: type[ModelError]) -> AbstractContextManager[None]:
    return explained(uri, missing=missing, refused=ModelError)


def _card(text: bytes, uri: str) -> ModelCard:
    try:
        return ModelCard.from_json(text.decode(errors="replace"))
    except CheckpointInvalid as error:
        raise CheckpointInvalid(f"{uri}: {error.message}", remedy=error.remedy) from None


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(local_path(os.environ.get(FOLDER_VARIABLE) or f"{home}/microtome/models"))
