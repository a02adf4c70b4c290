"""The numbers of the TIFF tags that a slide reader asks for (TIFF 6.0 and its supplements)."""

from __future__ import annotations

NEW_SUBFILE_TYPE = 254
WIDTH = 256
HEIGHT = 257
BITS_PER_SAMPLE = 258
COMPRESSION = 259
PHOTOMETRIC = 262
FILL_ORDER = 266
IMAGE_DESCRIPTION = 270
ORIENTATION = 274
SAMPLES_PER_PIXEL = 277
X_RESOLUTION = 282
Y_RESOLUTION = 283
PLANAR_CONFIGURATION = 284
RESOLUTION_UNIT = 296
SOFTWARE = 305
PREDICTOR = 317
TILE_WIDTH = 322
TILE_HEIGHT = 323
TILE_OFFSETS = 324
TILE_BYTE_COUNTS = 325
SUB_IFDS = 330
SAMPLE_FORMAT = 339
JPEG_TABLES = 347
XMP = 700
IMAGE_DEPTH = 32997
NDPI_VERSION = 65420

RGB = 2
"""PhotometricInterpretation."""

YCBCR = 6
"""PhotometricInterpretation."""

REDUCED = 1
"""The bit of NewSubfileType that marks a smaller version of another image."""

INCH = 2
CENTIMETRE = 3
"""ResolutionUnit."""
