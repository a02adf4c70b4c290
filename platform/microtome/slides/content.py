"""What a slide's bytes are, whatever its name and wherever it lies.

Of each file its size, its head, its tail and samples between are hashed: some 200 KB instead of
gigabytes, in one round of ranged reads. It tells files apart that scanners, copies and truncation
make; it is no signature against someone who forges a file on purpose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from microtome.slides.slide import SlideRef
from microtome.slides.storage import FileSystem, filesystem_of

EDGE_BYTES = 64 * 1024
SAMPLES = 16
SAMPLE_BYTES = 4 * 1024
ID_LENGTH = 32


@dataclass(frozen=True, slots=True)
class SlideFiles:
    """A slide whose files were looked at, but not opened.

    Attributes:
        ref: the slide as it was wanted.
        parts: URIs of all its files, see `parts_of`.
        content_id: see `content_id`.
        size_bytes: of all of them.
        etag: version of the main file in its store, as it was before any of it was read; empty
            for a file of this machine.
    """

    ref: SlideRef
    parts: tuple[str, ...]
    content_id: str
    size_bytes: int
    etag: str = ""


def content_id(files: Sequence[str]) -> tuple[str, int]:
    """Identity of the files that make up one slide.

    Args:
        files: URIs of all its files, see `parts_of`. Neither their names nor their order count:
            a DICOM series keeps its identity when an archive renames its files.

    Returns:
        (32 hex characters of a SHA-256, total bytes).

    Raises:
        OSError: or a store's own error, where a file can't be read.
    """
    filesystem, _ = filesystem_of(files[0])
    paths = [filesystem_of(file)[1] for file in files]
    sizes = [int(filesystem.info(path)["size"]) for path in paths]
    digests = [_digest(filesystem, path, size) for path, size in zip(paths, sizes, strict=True)]
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:ID_LENGTH], sum(sizes)


def sampled_ranges(size: int) -> list[tuple[int, int]]:
    """Byte ranges [start, end) that are hashed of a file of `size` bytes."""
    step = max(size - SAMPLE_BYTES, 0) / (SAMPLES - 1)
    starts = [round(number * step) for number in range(SAMPLES)]
    ranges = [(0, EDGE_BYTES), (size - EDGE_BYTES, size)]
    ranges += [(start, start + SAMPLE_BYTES) for start in starts]
    return sorted({(max(start, 0), min(end, size)) for start, end in ranges if size})


def _digest(filesystem: FileSystem, path: str, size: int) -> bytes:
    starts, ends = zip(*sampled_ranges(size), strict=True) if size else ((), ())
    chunks = filesystem.cat_ranges([path] * len(starts), list(starts), list(ends), on_error="raise")
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()
