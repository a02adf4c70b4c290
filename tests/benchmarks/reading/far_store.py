"""A store far away: moto's S3 in a process of its own, behind a proxy that makes callers wait.

moto copies a whole object for each range that is asked of it. So the proxy asks once and answers
ranges from memory: what is measured is waiting and moving, as in a store, and not moto.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class FarStore:
    """A running store.

    Attributes:
        variables: what a process needs in its environment to use it.
        uri: of the one slide in it.
        latency_ms: added before each answer; may be set.
        requests: for ranges, so far.
    """

    variables: dict[str, str]
    uri: str
    latency_ms: Synchronized[int]
    requests: Synchronized[int]


@contextmanager
def far_store(slide: Path) -> Iterator[FarStore]:
    """Start a store that holds one slide; it ends with the block."""
    latency_ms, requests = _PROCESSES.Value("q", 0), _PROCESSES.Value("q", 0)
    line, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_serve, args=(slide, latency_ms, requests, theirs))
    process.start()
    try:
        yield FarStore(*line.recv(), latency_ms, requests)
    finally:
        line.send("end")
        process.join()


def _serve(
    slide: Path, latency_ms: Synchronized[int], requests: Synchronized[int], line: Connection
) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from support.faulty_store import Passed, faults_before
    from support.object_store import running_store

    content = slide.read_bytes()
    with running_store() as store, faults_before(store.endpoint) as proxy:
        uri = f"{store.bucket({slide.name: slide})}/{slide.name}"
        etag = store.etag(uri)

        def answer(request: Passed) -> bool:
            if not request.is_content:
                return False
            with requests.get_lock():
                requests.value += 1
            time.sleep(latency_ms.value / 1000)
            start, end = request.headers["Range"].removeprefix("bytes=").split("-")
            body = memoryview(content)[int(start) : int(end) + 1]
            request.send_response(206)
            request.send_header("ETag", etag)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
            return True

        proxy.fault = answer
        line.send((store.variables | {"AWS_ENDPOINT_URL": proxy.endpoint}, uri))
        line.recv()
