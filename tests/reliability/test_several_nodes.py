"""Training on several nodes: two ``torchrun`` of one process each with a common rendezvous, as on two machines."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.helpers.database_servers import free_port
from tests.reliability.test_torchrun import Job, same

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ONE_PROCESS = ("--standalone", "--nproc-per-node", "1")


def node_options(port: int, *more: str) -> Sequence[str]:
    """Return the options of README for each of two nodes; the first hosts the rendezvous."""
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "17"]
    return (*options, "--rdzv-endpoint", f"localhost:{port}", *more)


def two_nodes(folder: Path, port: int, *more: str) -> tuple[Job, Job]:
    """Start both nodes. The first hosts the rendezvous, because on one machine the process that starts first does."""
    launch = node_options(port, *more)
    first = Job.new(folder, "runs", max_restarts=3, launch=launch)
    first.wait(lambda: is_open(port))
    return first, Job.new(folder, "runs", max_restarts=3, launch=launch)


def is_open(port: int) -> bool:
    """Whether a process listens at ``port``, found without connecting to it."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def end_well(*jobs: Job) -> None:
    for status, output in [job.end() for job in jobs]:
        assert status == 0, output


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Weights of two processes on one node that nothing interrupts."""
    job = Job.new(tmp_path_factory.mktemp("whole"), "runs")
    end_well(job)
    return job.weights()


def test_two_nodes_train_as_two_processes_on_one(tmp_path: Path, whole: dict[str, torch.Tensor]) -> None:
    first, second = two_nodes(tmp_path, free_port())
    end_well(first, second)
    assert same(first.weights(), whole)


def test_two_nodes_train_as_one_process_on_the_joined_batch(tmp_path: Path) -> None:
    """In float32, whose rounding Adam soon makes visible; ``test_distributed.py`` has all steps in float64."""
    options = ("sync_batch_norm=true", "steps=4")
    launch = node_options(free_port())
    nodes = [Job.new(tmp_path, "runs", *options, launch=launch) for _ in range(2)]
    alone = Job.new(tmp_path, "alone", *options, launch=ONE_PROCESS)
    end_well(*nodes, alone)
    logs = [(job.run / "train.jsonl").read_text().splitlines() for job in (nodes[0], alone)]
    found, wanted = ([json.loads(line)["total"] for line in log] for log in logs)
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    assert found == pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("node", [0, 1])
def test_a_killed_rank_of_either_node_brings_both_back(
    node: int, tmp_path: Path, whole: dict[str, torch.Tensor]
) -> None:
    nodes = two_nodes(tmp_path, free_port())
    nodes[0].wait(lambda: nodes[0].step() >= 20)
    os.kill(nodes[node].workers()[0], signal.SIGKILL)
    end_well(*nodes)
    assert same(nodes[0].weights(), whole)


def kill_node(job: Job) -> None:
    """Let a node vanish, its launcher and its rank."""
    ranks = job.workers()
    for pid in (job.process.pid, *ranks):
        os.kill(pid, signal.SIGKILL)
    job.process.wait()


def test_a_node_that_vanishes_and_is_started_again_brings_both_back(
    tmp_path: Path, whole: dict[str, torch.Tensor]
) -> None:
    port = free_port()
    first, second = two_nodes(tmp_path, port)
    first.wait(lambda: first.step() >= 20)
    kill_node(second)
    end_well(first, Job.new(tmp_path, "runs", max_restarts=3, launch=node_options(port)))
    assert same(first.weights(), whole)


@pytest.mark.parametrize(("node", "message"), [(0, "RendezvousConnectionError"), (1, "RendezvousTimeoutError")])
def test_a_node_that_stays_away_ends_the_other_in_time(node: int, message: str, tmp_path: Path) -> None:
    nodes = two_nodes(tmp_path, free_port(), "--rdzv-conf", "join_timeout=10")
    nodes[0].wait(lambda: nodes[0].step() >= 5)
    kill_node(nodes[node])
    status, output = nodes[1 - node].end()
    assert (status, message in output) == (1, True), output


def test_an_elastic_job_goes_on_with_the_node_that_is_left(tmp_path: Path) -> None:
    first, second = two_nodes(tmp_path, free_port(), "--nnodes", "1:2")
    first.wait(lambda: first.step() >= 5)
    kill_node(second)
    status, output = first.end()
    assert status == 0, output
    assert "processes 1 instead of 2" in " ".join(output.split())
