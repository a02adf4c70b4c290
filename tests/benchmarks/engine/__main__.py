"""The indexing job against a plain loop, and its memory on a vast slide: `make bench-engine`.

throughput  the same slides, model, threads and cores, once in a plain loop in this program's own
            process tree without Ray, once as `microtome index`; start-up is shown apart
memory      peak resident memory of every process while a small and a vast slide are indexed

Each run is a process of its own, so nothing is warm that wouldn't be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from vast_slide import write_vast_slide

from microtome_jobs.made.slides import MadeSpec, make_slides

CNN = "timm:resnet18@random:0"
TINY = "timm:test_vit@random:0"  # memory, not speed: the slide should pass quickly
THREADS = os.cpu_count() or 1


def plain_loop(slides: list[str], threads: int) -> None:
    """Read and embed every tile of the slides; prints tiles and seconds as JSON."""
    import torch

    from microtome.config import GridSettings, MppSettings
    from microtome.models.registry import load_encoder
    from microtome.slides.opening import open_slide
    from microtome.slides.slide import SlideRef
    from microtome.tiles.cut import cut_tiles, plan_tiles

    torch.set_num_threads(threads)
    encoder = load_encoder(CNN)
    started, tiles = time.monotonic(), 0
    for slide in slides:
        with open_slide(SlideRef(slide, slide), MppSettings()) as reader:
            plan = plan_tiles(reader, GridSettings())
            for batch in cut_tiles(reader, plan, batch_size=64, threads=threads):
                tiles += len(encoder.encode(batch.pixels))
    print(json.dumps({"tiles": tiles, "embed_s": time.monotonic() - started}))


def measured(command: list[str]) -> tuple[dict, dict[str, int]]:
    """Run a command; its JSON, and the peak resident bytes of each kind of its processes."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peaks: dict[str, int] = {}
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done))
    watcher.start()
    output, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode not in {0, 3}:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return json.loads(output), peaks


def _watch(pid: int, peaks: dict[str, int], done: threading.Event) -> None:
    while not done.wait(1.0):
        try:
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                name = "driver" if process.pid == pid else process.name()
                peaks[name] = max(peaks.get(name, 0), process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue


def index(slides: list[str], atlas: Path, model: str, *further: str) -> tuple[dict, dict[str, int]]:
    """`microtome index`, measured."""
    program = [sys.executable, "-m", "microtome_jobs", "index", *slides]
    return measured([*program, "--atlas", str(atlas), "--model", model, "--json", *further])


def throughput(folder: Path, rounds: int) -> None:
    """Print tiles per second of both, alternating, and their ratio."""
    make_slides(folder / "slides", MadeSpec(slides=8, bad=False))
    slides = sorted(str(path) for path in (folder / "slides").glob("*.svs"))
    print(
        "| round | tiles | plain loop, tiles/s | microtome index, tiles/s | ratio | start-up, s |"
    )
    print("|--:|--:|--:|--:|--:|--:|")
    for number in range(rounds):
        me = [sys.executable, str(Path(__file__).parent)]
        plain, _ = measured([*me, "plain", "--threads", str(THREADS), *slides])
        ray, _ = index(slides, folder / f"atlas{number}", CNN, "--workers", "1")
        rates = plain["tiles"] / plain["embed_s"], ray["tiles"] / ray["embed_s"]
        print(
            f"| {number + 1} | {ray['tiles']:,} | {rates[0]:.1f} | {rates[1]:.1f} "
            f"| {rates[1] / rates[0]:.3f} | {ray['startup_s']:.1f} |",
            flush=True,
        )


def memory(folder: Path) -> None:
    """Print peak memory per kind of process for a small and a vast slide."""
    noise = np.random.default_rng(0).normal(0, 25, (256, 256, 1))
    picture = (np.array([200, 120, 180]) + noise).clip(0, 255).astype(np.uint8)
    print("| slide | tiles | tiles/s | driver, MB | worker, MB |")
    print("|---|--:|--:|--:|--:|")
    for side_px, tissue in ((10_000, 0.5), (100_000, 0.35)):
        path = folder / f"vast{side_px}.tif"
        write_vast_slide(path, side_px, tissue, picture)
        result, peaks = index([str(path)], folder / f"atlas{side_px}", TINY, "--workers", "1")
        worker = max(
            (v for name, v in peaks.items() if "SlideActor" in name or "MapWorker" in name)
        )
        print(
            f"| {side_px:,} px | {result['tiles']:,} | {result['tiles_per_s']:.0f} "
            f"| {peaks['driver'] / 1e6:.0f} | {worker / 1e6:.0f} |",
            flush=True,
        )


def main() -> None:
    """Run what is asked for, or both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["all", "throughput", "memory", "plain"], nargs="?")
    parser.add_argument("slides", nargs="*")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_intermixed_args()
    if asked.part == "plain":
        plain_loop(asked.slides, asked.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        if asked.part in {None, "all", "throughput"}:
            throughput(Path(folder), asked.rounds)
        if asked.part in {None, "all", "memory"}:
            memory(Path(folder))


if __name__ == "__main__":
    main()
