"""Load on a server, and what came of it, request by request."""

from __future__ import annotations

import csv
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PARTS = 16  # processes of hey, where they are to keep a rate


@dataclass(frozen=True)
class Body:
    """What is posted: a body and its type; several are sent side by side."""

    data: bytes
    kind: str = "application/json"


@dataclass(frozen=True)
class Told:
    """What became of the requests.

    Attributes:
        accepted_s: seconds of those that were answered 200, by their start.
        refused_s: of those that were answered otherwise.
        statuses: how many of each; what had no answer at all is not here.
        seconds: of the whole.
    """

    accepted_s: np.ndarray
    refused_s: np.ndarray
    statuses: dict[int, int]
    seconds: float

    @property
    def per_s(self) -> float:
        """Answers 200 a second."""
        return len(self.accepted_s) / self.seconds

    def ms(self, percentile: float) -> float:
        """Of those that were answered 200."""
        return percentile_ms(self.accepted_s, percentile)


def percentile_ms(seconds: np.ndarray, percentile: float) -> float:
    """A percentile in milliseconds; NaN of nothing."""
    return float(np.percentile(seconds, percentile)) * 1e3 if len(seconds) else float("nan")


def load(
    url: str,
    bodies: Sequence[Body],
    clients: int,
    seconds: float,
    per_s: float | None = None,
) -> Told:
    """Ask for so long, each client one request after the other.

    Args:
        url: what is asked.
        bodies: posted, each by its share of the clients; none to get.
        clients: connections at once.
        seconds: how long.
        per_s: requests a second in all, as far as there are clients free; None for as many as go.
    """
    with tempfile.TemporaryDirectory() as folder:
        parts = max(1, len(bodies)) if per_s is None else PARTS
        shares = _shares(clients, parts)
        running = []
        for number, share in enumerate(shares):
            if per_s is not None:  # hey's clients all begin at the same moment, and keep step
                time.sleep(clients / per_s / len(shares))
            command = ["hey", "-o", "csv", "-z", f"{seconds:g}s", "-c", str(share), "-t", "60"]
            command += ["-cpus", "1"]
            if per_s is not None:
                command += ["-q", f"{per_s / clients:g}"]
            if bodies:
                file = Path(folder, f"{number}.body")
                body = bodies[number % len(bodies)]
                file.write_bytes(body.data)
                command += ["-m", "POST", "-D", str(file), "-T", body.kind]
            running.append(subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True))
        rows = [row for one in running for row in csv.DictReader(one.communicate()[0].splitlines())]
    return _told(rows, seconds)


def _shares(clients: int, parts: int) -> list[int]:
    parts = min(parts, clients)
    return [clients // parts + (place < clients % parts) for place in range(parts)]


def _told(rows: Sequence[dict[str, str]], seconds: float) -> Told:
    rows = sorted(rows, key=lambda row: float(row["offset"]))
    took = np.array([float(row["response-time"]) for row in rows])
    status = np.array([int(row["status-code"]) for row in rows], dtype=int)
    found, counts = np.unique(status, return_counts=True)
    return Told(
        took[status == 200],
        took[status != 200],
        dict(zip(found.tolist(), counts.tolist(), strict=True)),
        seconds,
    )
