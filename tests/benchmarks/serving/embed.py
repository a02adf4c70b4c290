"""Embedding by batch size, and what batching across requests brings over HTTP.

curve  tiles a second of the model alone in this process, by tiles per call
http   pictures of one tile each, from many clients, with batching across requests and without

MICROTOME_BENCH_MODEL: the model, timm:resnet18@random:0 if not said. On a GPU where there is one.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
from load import Body, load
from PIL import Image
from running import running

from microtome.models.registry import load_encoder
from microtome_serve.settings import Batching
from support.served_atlas import GRID, index_served

MODEL = os.environ.get("MICROTOME_BENCH_MODEL", "timm:resnet18@random:0")
STEP_S = float(os.environ.get("MICROTOME_BENCH_STEP_S", "10"))
BATCHES = (1, 2, 4, 8, 16, 32, 64)
CLIENTS = 32
PICTURES = 4


def curve() -> None:
    """Print tiles a second by batch size."""
    encoder = load_encoder(MODEL)
    tiles = np.random.default_rng(0).integers(0, 256, (max(BATCHES), 224, 224, 3), np.uint8)
    print(f"{MODEL}, tiles of 224 px\n\n| tiles per call | tiles/s | × one by one |\n|--:|--:|--:|")
    rates: list[float] = []
    for size in BATCHES:
        encoder.encode(tiles[:size])
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < STEP_S / 3:
            encoder.encode(tiles[:size])
            done += size
        rates.append(done / (time.perf_counter() - started))
        print(f"| {size} | {rates[-1]:.1f} | {rates[-1] / rates[0]:.2f} |", flush=True)


def picture_form(seed: int) -> Body:
    """A form with one picture of one tile."""
    pixels = np.random.default_rng(seed).integers(0, 256, (GRID.tile_px, GRID.tile_px, 3), np.uint8)
    file, boundary = io.BytesIO(), uuid.uuid4().hex
    Image.fromarray(pixels).save(file, "png")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    data = head.encode() + file.getvalue() + f"\r\n--{boundary}--\r\n".encode()
    return Body(data, f"multipart/form-data; boundary={boundary}")


def main() -> None:
    """Print both tables."""
    curve()
    print(
        f"\n| tiles per batch, at most | pictures/s of {CLIENTS} clients | p50, ms | p99, ms "
        "| other answers |\n|--:|--:|--:|--:|--:|"
    )
    bodies = [picture_form(seed) for seed in range(PICTURES)]
    with tempfile.TemporaryDirectory() as folder:
        atlas = index_served(Path(folder), model=MODEL)
        for tiles in (1, 64):
            with running(atlas, Path(folder, "audit.jsonl"), Batching(tiles=tiles)) as urls:
                load(f"{urls.server}/v1/embed", bodies, 4, 2.0)  # caches
                told = load(f"{urls.server}/v1/embed", bodies, CLIENTS, STEP_S)
            print(
                f"| {tiles} | {told.per_s:.1f} | {told.ms(50):.1f} | {told.ms(99):.1f} "
                f"| {len(told.refused_s)} |",
                flush=True,
            )
