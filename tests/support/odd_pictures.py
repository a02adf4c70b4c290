"""Pictures that nobody should have to open."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

PINK = (200, 100, 150)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(side_px: int) -> bytes:
    """A PNG of some hundred bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 10_000)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff_of_many_pages(count: int) -> bytes:
    """A TIFF of one picture and then ever more directories, each a copy of the first."""
    first = bytearray(encoded(Image.new("RGB", (8, 8), PINK), "TIFF"))
    start = struct.unpack_from("<I", first, 4)[0]
    entries = struct.unpack_from("<H", first, start)[0]
    directory = bytes(first[start : start + 2 + 12 * entries])
    place, pages = len(first), bytearray()
    struct.pack_into("<I", first, start + len(directory), place)
    for _ in range(count):
        place += len(directory) + 4
        pages += directory + struct.pack("<I", place)
    return bytes(first) + bytes(pages[:-4]) + b"\0\0\0\0"


def odd_pictures() -> dict[str, bytes]:
    """Pictures of tissue in every way that a camera or a program may write them, 64 px a side."""
    pink, blue = Image.new("RGB", (64, 64), PINK), Image.new("RGB", (64, 64), "blue")
    deep = np.full((64, 64), 40_000, np.uint16)
    return {
        "rgb": encoded(pink),
        "grey": encoded(pink.convert("L")),
        "16-bit": encoded(Image.fromarray(deep)),
        "cmyk": encoded(pink.convert("CMYK"), "JPEG"),
        "transparent": encoded(pink.convert("RGBA")),
        "palette": encoded(pink.convert("P")),
        "tiny": encoded(pink.resize((1, 1))),
        "wide": encoded(pink.resize((700, 3))),
        "two in one": encoded(pink, "TIFF", save_all=True, append_images=[blue]),
        "animated": encoded(pink, "WEBP", save_all=True, append_images=[blue]),
        "gif": encoded(pink, "GIF"),
        "bomb": bomb(50_000),
        "large": bomb(5000),
        "pages": tiff_of_many_pages(1000),
        "cut": encoded(Image.effect_noise((64, 64), 90))[:-1500],
        "text": b"hello",
        "empty": b"",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }
