"""How the tiles of one level are coded, and the decoder for each way.

Every decoder is told the size it must end at, so a bad tile costs no more than a good one. JPEG
alone is shrunk by its decoder: the resolutions inside JPEG 2000 are no means of their pixels (on
tissue 6 grey levels off at one half, JPEG 0.7), so that tiles would look sharper than they should.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import imagecodecs
import numpy as np

from microtome.slides.slide import Pixels
from microtome.slides.tiff_jpeg import complete_jpeg, decode_jpeg

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE = 1, 5, 7, 8, 32946
APERIO_JP2K_YCBCR, APERIO_JP2K_RGB = 33003, 33005

_HORIZONTAL = 2
"""TIFF's predictor: each sample is stored as its difference from the one to the left."""


class TileBroken(Exception):
    """The bytes of a tile don't decode to its pixels."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a level's tiles are coded.

    Attributes:
        compression: TIFF's number for it.
        tile_size_px: height and width of every tile, those at the edges included.
        ycbcr: whether JPEG or JPEG 2000 components are YCbCr; else RGB.
        predictor: TIFF's number, 1 for none; LZW and deflate only.
        jpeg_tables: segments that all JPEG tiles share, from `tiff_jpeg.shared_tables`.
        reductions: by how much the decoder itself can shrink a tile to whole pixels, 1 first.
    """

    compression: int
    tile_size_px: tuple[int, int]
    ycbcr: bool = False
    predictor: int = 1
    jpeg_tables: bytes = b""
    reductions: tuple[int, ...] = (1,)

    @property
    def tile_bytes(self) -> int:
        """Bytes of a decoded tile."""
        return self.tile_size_px[0] * self.tile_size_px[1] * 3

    @property
    def most_bytes(self) -> int:
        """More bytes than this no encoder needs for a tile; a larger byte count is a lie."""
        return 2 * self.tile_bytes + (1 << 16)


def decode_tile(encoding: Encoding, data: bytes, reduction: int = 1) -> Pixels:
    """Decode one tile.

    Returns:
        (height / reduction, width / reduction, 3) uint8, RGB, of the whole tile.

    Raises:
        TileBroken: the bytes don't decode to a tile of that size.
    """
    try:
        return _DECODERS[encoding.compression](encoding, data, reduction)
    except (ValueError, RuntimeError) as error:  # imagecodecs raises RuntimeError
        raise TileBroken(str(error) or type(error).__name__) from None


def jp2k_is_subsampled(data: bytes) -> bool:
    """Whether a JPEG 2000 codestream stores a component at less than full resolution.

    Raises:
        TileBroken: it is no codestream.
    """
    return any(step != (1, 1) for step in _jp2k_size(data)[1])


def _jpeg(encoding: Encoding, data: bytes, reduction: int) -> Pixels:
    size = encoding.tile_size_px
    stream = complete_jpeg(data, encoding.jpeg_tables, encoding.ycbcr, size)
    return decode_jpeg(stream, size, reduction)


def _jp2k(encoding: Encoding, data: bytes, reduction: int) -> Pixels:
    size, components = _jp2k_size(data)
    if size != encoding.tile_size_px or components != [(1, 1)] * 3:
        raise TileBroken(f"a tile of {encoding.tile_size_px} pixels holds a JPEG 2000 of {size}")
    pixels: Pixels = imagecodecs.jpeg2k_decode(data)
    if pixels.shape != (*size, 3) or pixels.dtype != np.uint8:
        raise TileBroken(f"the tile decodes to {pixels.shape} {pixels.dtype}")
    return _rgb(pixels) if encoding.ycbcr else pixels


def _jp2k_size(data: bytes) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Height and width, and each component's steps, from the SIZ segment (ISO 15444-1, A.5.1)."""
    if data[:4] != b"\xff\x4f\xff\x51" or len(data) < 42:
        raise TileBroken("the tile doesn't begin as JPEG 2000 does")
    width, height, left, top = struct.unpack(">4I", data[8:24])
    count = int.from_bytes(data[40:42])
    steps = data[42 : 42 + 3 * count]
    if left or top or len(steps) < 3 * count:
        raise TileBroken("the JPEG 2000 header is damaged")
    return (height, width), list(zip(steps[1::3], steps[2::3], strict=True))


def _rgb(ycbcr: Pixels) -> Pixels:
    """JFIF's YCbCr to RGB, rounded as OpenSlide does: red and blue once, green's parts at 2⁻¹⁶."""
    y, cb, cr = (ycbcr[..., i] for i in range(3))
    chroma = _RED_CR[cr], (_GREEN_CB[cb] + _GREEN_CR[cr]) >> 16, _BLUE_CB[cb]
    return (np.stack(chroma, axis=-1) + y[..., None]).clip(0, 255).astype(np.uint8)


_CHROMA = np.arange(-128.0, 128.0)
_RED_CR, _BLUE_CB, _GREEN_CB, _GREEN_CR = (
    np.rint(values).astype(np.int32)
    for values in (
        1.402 * _CHROMA,
        1.772 * _CHROMA,
        65536 * (0.5 - 0.34414 * _CHROMA),
        65536 * -0.71414 * _CHROMA,
    )
)


def _raw(encoding: Encoding, data: bytes, reduction: int) -> Pixels:
    return _shaped(encoding, data)


def _lzw(encoding: Encoding, data: bytes, reduction: int) -> Pixels:
    return _shaped(encoding, imagecodecs.lzw_decode(data, out=encoding.tile_bytes))


def _deflate(encoding: Encoding, data: bytes, reduction: int) -> Pixels:
    return _shaped(encoding, imagecodecs.zlib_decode(data, out=encoding.tile_bytes))


def _shaped(encoding: Encoding, samples: bytes | bytearray) -> Pixels:
    if len(samples) != encoding.tile_bytes:
        raise TileBroken(f"the tile holds {len(samples)} bytes, not {encoding.tile_bytes}")
    pixels = np.frombuffer(samples, np.uint8).reshape(*encoding.tile_size_px, 3)
    if encoding.predictor == _HORIZONTAL:
        return np.cumsum(pixels, axis=1, dtype=np.uint8)
    return pixels


_DECODERS: Mapping[int, Callable[[Encoding, bytes, int], Pixels]] = {
    NONE: _raw,
    LZW: _lzw,
    JPEG: _jpeg,
    DEFLATE: _deflate,
    OLD_DEFLATE: _deflate,
    APERIO_JP2K_YCBCR: _jp2k,
    APERIO_JP2K_RGB: _jp2k,
}

COMPRESSIONS = frozenset(_DECODERS)
