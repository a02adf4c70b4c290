"""Model folders that lie in an object store: weights are copied to this machine once, and checked.

A copy is kept under the model's id, whatever its URI. The card, which says what the weights must be
and under which licence, is asked for each time, and never kept. Copies may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path

from torch import Tensor

from microtome.errors import CheckpointInvalid, ModelError, ModelNotFound
from microtome.models.card import ID_LENGTH, ModelCard
from microtome.models.checkpoint import CARD_FILE, WEIGHTS_FILE, read_weights
from microtome.slides.staging_entry import Entry, locked
from microtome.slides.storage import explained, filesystem_of, local_path

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
    file = _file(uri, CARD_FILE)
    store, path = filesystem_of(file)
    with _of_store(file, ModelNotFound):
        text: bytes = store.cat_file(path)
    try:
        return ModelCard.from_json(text.decode(errors="replace"))
    except CheckpointInvalid as error:
        raise CheckpointInvalid(f"{uri}: {error.message}", remedy=error.remedy) from None


def stored_weights(uri: str, card: ModelCard) -> dict[str, Tensor]:
    """The weights of a model in a store, as `read_weights`.

    They are read from this machine's copy; where there is none, or a damaged one, it is fetched, by
    one process for all.

    Args:
        uri: of the model's folder.
        card: what `stored_card` gave.

    Raises:
        CheckpointInvalid: the weights are missing in the store, or aren't the card's.
        ModelError: the store refuses or can't be reached, or there is no room for a copy here.
    """
    entry = Entry(_cache(), card.model_id)
    with suppress(CheckpointInvalid):
        return read_weights(entry.whole, card)
    try:
        entry.folder.mkdir(parents=True, exist_ok=True)
        with locked(entry.lock, fcntl.LOCK_EX):
            with suppress(CheckpointInvalid):  # another process has fetched it meanwhile
                return read_weights(entry.whole, card)
            return _fetched(uri, card, entry)
    except OSError as error:
        raise ModelError(
            f"the model {uri} can't be copied to this machine: {error.strerror}",
            remedy=f"Name a folder with room by {FOLDER_VARIABLE}.",
        ) from None


def _fetched(uri: str, card: ModelCard, entry: Entry) -> dict[str, Tensor]:
    """Make a copy that is whole, or none, and read it; the caller holds the entry alone."""
    _sweep(entry.folder)
    try:
        entry.clear()
        entry.part.mkdir()
        _download(_file(uri, WEIGHTS_FILE), entry.part / WEIGHTS_FILE)
        weights = read_weights(entry.part, card, shown=uri)
        entry.part.rename(entry.whole)
    except BaseException:
        entry.remove()
        raise
    return weights


def _sweep(folder: Path) -> None:
    """Remove what killed processes left."""
    for part in folder.glob(f"{'[0-9a-f]' * ID_LENGTH}.part"):
        with suppress(OSError):  # another user's
            Entry(folder, part.stem).removed()


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


def _file(uri: str, name: str) -> str:
    return f"{uri.rstrip('/')}/{name}"


def _of_store(uri: str, missing: type[ModelError]) -> AbstractContextManager[None]:
    return explained(uri, missing=missing, refused=ModelError)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(local_path(os.environ.get(FOLDER_VARIABLE) or f"{home}/microtome/models"))
