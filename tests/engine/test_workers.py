"""How the model is spread over a cluster: the workers must fit the nodes they are to run on."""

from __future__ import annotations

import pytest

from microtome.engine.cluster import Node
from microtome.engine.stages import Workers
from microtome.errors import SettingError

LAPTOP = [Node(8, 0)]
SMALL_NODES = [Node(2, 0)] * 3
GPU_AND_MORE = [Node(8, 1), Node(56, 0)]
TWO_GPUS = [Node(16, 2), Node(24, 2)]


@pytest.mark.parametrize(
    # nodes, workers asked, cores asked → workers, cores, GPUs each
    ("nodes", "count", "cpus", "expected"),
    [
        (LAPTOP, 0, 0, (2, 4, 0.0)),
        (LAPTOP, 1, 8, (1, 8, 0.0)),
        (LAPTOP, 0, 3, (2, 3, 0.0)),
        (SMALL_NODES, 0, 0, (3, 2, 0.0)),  # four cores lie on no node
        (GPU_AND_MORE, 0, 0, (1, 8, 1.0)),  # the cores beside the GPU count, not all
        (TWO_GPUS, 0, 0, (4, 8, 1.0)),
        (TWO_GPUS, 8, 0, (8, 8, 1.0)),  # nodes yet to come; never part of a GPU
    ],
)
def test_workers_fit_their_nodes(nodes, count, cpus, expected):
    assert Workers.for_cluster(nodes, count, cpus) == Workers(*expected)


@pytest.mark.parametrize("nodes", [SMALL_NODES, [Node(2, 1), Node(64, 0)]])
def test_cores_that_no_node_has_are_refused(nodes):
    with pytest.raises(SettingError, match="no node has more than 2"):
        Workers.for_cluster(nodes, cpus=4)
