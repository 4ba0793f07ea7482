"""Several processes train as a single one: same losses, weights, statistics and scores, and they stop together."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.checkpoints import container
from supernet.cli.hydra_app import compose_config
from supernet.compute.distributed import SINGLE_PROCESS, Processes
from supernet.errors import UserError
from supernet.evaluation import run as evaluation_run
from supernet.pose.data.subset import Subset
from supernet.pose.keypoints import COCO
from supernet.pose.synthetic.dataset import SyntheticPeople
from supernet.pose.training.loader import StepSampler
from tests.helpers.rank_jobs import STEPS, norm_case, trained
from tests.helpers.training import NUM_STEPS, is_equal, tiny_trainer, train


def run_in_two_processes(folder: Path, timeout_seconds: float, *lists: str) -> tuple[list[list[int]], str]:
    """Run each list of jobs of ``rank_jobs`` in two processes; returns their exit statuses and what all printed."""
    command = [sys.executable, "-m", "tests.helpers.rank_jobs", str(folder), str(timeout_seconds), *lists]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    statuses: list[list[int]] = json.loads(result.stdout.splitlines()[-1])
    return statuses, result.stderr


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[int]], str]:
    """Folder of the jobs of two processes, of which the last one ends both, and of two more that crash at once."""
    folder = tmp_path_factory.mktemp("ranks")
    jobs = ("normalised", "trained", "poisoned", "rolling_back", "rolling_back_twice", "evaluating", "disagreeing")
    return folder, *run_in_two_processes(folder, 120, ",".join([*jobs, "gathering"]), "crashing")


@pytest.fixture(scope="module")
def work(ended: tuple[Path, list[list[int]], str]) -> Path:
    """Folder of the jobs that do not end their processes; the last job ends both with the same UserError."""
    folder, statuses, errors = ended
    assert statuses[0] == [2, 2], errors
    assert errors.count("the same error in both") == 1
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a single process for a job that two do together."""
    folder = tmp_path_factory.mktemp("alone")
    trained(SINGLE_PROCESS, folder)
    return container.load(folder / "rank0", "test")


def results(folder: Path) -> list[dict[str, Any]]:
    return [container.load(folder / f"rank{rank}", "test") for rank in range(2)]


def test_two_processes_train_as_one_on_the_joint_batch(work: Path, alone: dict[str, Any]) -> None:
    assert len(alone["totals"]) == STEPS
    for rank in results(work / "trained"):
        for totals, expected in zip(rank["totals"], alone["totals"], strict=True):
            assert totals == pytest.approx(expected, rel=1e-5)
        assert rank["norms"] == pytest.approx(alone["norms"], rel=1e-5)
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(rank["weights"][name], weight, rtol=0, atol=1e-5)


def test_a_subnet_is_the_same_in_all_processes_and_as_in_a_single_one(work: Path, alone: dict[str, Any]) -> None:
    first, second = results(work / "trained")
    assert first["network"].keys() == alone["network"].keys()
    for name, value in first["network"].items():
        assert torch.equal(value, second["network"][name]), name
        torch.testing.assert_close(value, alone["network"][name], rtol=1e-4, atol=1e-5)
    assert len(alone["poses"]) == 7
    assert sum(len(poses) for poses in alone["poses"]) > 0
    for poses, others, expected in zip(first["poses"], second["poses"], alone["poses"], strict=True):
        assert torch.equal(poses, others)
        assert poses.shape == expected.shape
    assert first["metrics"] == second["metrics"]
    assert first["metrics"]["AP"] == pytest.approx(alone["metrics"]["AP"], abs=1e-3)


def test_a_synchronised_norm_is_batch_norm_of_the_joint_batch(work: Path) -> None:
    x, weight, bias, target = norm_case()
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    out = torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=1e-5)
    (out - target).pow(4).mean().backward()  # type: ignore[no-untyped-call]
    ranks = results(work / "normalised")
    torch.testing.assert_close(torch.cat([rank["out"] for rank in ranks]), out, rtol=1e-10, atol=1e-12)
    for rank in ranks:
        torch.testing.assert_close(rank["gradients"][0], weight.grad, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(rank["gradients"][1], bias.grad, rtol=1e-10, atol=1e-12)
    inputs = torch.cat([rank["gradients"][2] for rank in ranks])
    torch.testing.assert_close(inputs, x.grad, rtol=1e-10, atol=1e-12)


def test_a_loss_that_is_not_finite_stops_all_processes_at_the_same_step(work: Path) -> None:
    messages = [(work / "poisoned" / f"rank{rank}").read_text() for rank in range(2)]
    assert messages[0] == messages[1]
    assert "the loss is nan at step 3" in messages[0]
    assert messages[0].endswith("; weights are finite")
    images = messages[0].partition("images ")[2].partition(";")[0].split(", ")
    assert len(images) == 4  # those of both processes


def test_a_failure_in_one_process_rolls_all_back_once_to_the_checkpoint(work: Path) -> None:
    first, second = results(work / "rolling_back")
    assert is_equal(first["recorded"], second["recorded"])
    assert is_equal(first["after"], first["recorded"] | {"rate_factor": 0.5})
    assert is_equal(second["after"], first["after"])
    assert is_equal(first["end"], second["end"])
    assert first["end"]["step"] == 12
    run = work / "rolling_back" / "train" / "run"
    summary = json.loads((run / "summary.json").read_text())
    (rollback,) = summary["health"]["rollbacks"]
    assert (rollback["failed_step"], rollback["back_to"], rollback["rate_factor"]) == (7, 6, 0.5)
    assert len(rollback["reason"].partition("images ")[2].split(", ")) == 4  # those of both processes
    rows = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(12))
    final = container.load(run / "supernet.pt", "supernet")["state"]
    for name, value in first["end"]["average"].items():
        assert torch.equal(final[name], value), name


def test_the_second_failure_in_one_process_ends_all_with_the_same_error(work: Path) -> None:
    first, second = results(work / "rolling_back_twice")
    assert first["error"] == second["error"]
    assert "the loss is nan at step 7" in first["error"]
    assert "after a rollback to step 6 " in first["error"]
    assert "end" not in first
    assert not (work / "rolling_back_twice" / "train" / "run" / "summary.json").exists()


def test_an_evaluation_by_two_processes_is_that_by_one(work: Path, tmp_path: Path) -> None:
    folder = work / "evaluating"
    for name, weights, arch in (("subnet", folder, "smallest"), ("export", folder / "model", "null")):
        options = [f"weights={weights}", f"arch={arch}", f"runs={tmp_path}", f"name={name}", "batch_size=4"]
        alone = evaluation_run.run(compose_config("evaluate", [*options, "num_calibration_images=12", "plots=true"]))
        both = folder / "evaluate" / name
        assert sorted(path.name for path in both.iterdir()) == sorted(path.name for path in alone.iterdir())
        figures, expected = (json.loads((run / "summary.json").read_text()) for run in (both, alone))
        assert (figures["processes"], expected["processes"]) == (2, 1)
        assert figures["num_images"] == expected["num_images"] == 12
        assert figures["num_detections"] == expected["num_detections"] > 12
        assert 0.05 < expected["metrics"]["AP"] < 0.95
        assert figures["metrics"] == pytest.approx(expected["metrics"], abs=1e-6)
        image_ids = [
            [result["image_id"] for result in json.loads((run / "results.json").read_text())] for run in (both, alone)
        ]
        assert image_ids[0] == image_ids[1]
    main, other = ((folder / f"rank{rank}").read_text() for rank in range(2))
    counts, printed = main.split("]", 1)
    assert sum(json.loads(f"{counts}]")) == 12  # its half of the images, twice
    assert "smallest subnet on 12 test images" in printed
    assert "2 processes; writing to" in printed
    assert sum(json.loads(other)) == 12  # and nothing printed


def test_processes_that_would_train_different_subnets_stop_before_the_step(work: Path) -> None:
    messages = [(work / "disagreeing" / f"rank{rank}").read_text() for rank in range(2)]
    assert messages[0] == messages[1]
    assert messages[0].startswith("2 ranks disagree on the subnets of step 2: rank 0 has ")


def test_processes_exchange_tensors_texts_and_errors(work: Path) -> None:
    assert [(work / "gathering" / f"rank{rank}").read_text() for rank in range(2)] == ["done", "done"]


def test_a_crash_of_one_process_ends_all_with_its_traceback(ended: tuple[Path, list[list[int]], str]) -> None:
    _, statuses, errors = ended
    assert statuses[1] == [1, 1], errors
    assert "ZeroDivisionError: rank 1 fails here" in errors
    assert "another process of this run has ended" in errors


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_others_in_time(tmp_path: Path) -> None:
    statuses, errors = run_in_two_processes(tmp_path, 10, "hanging")
    assert statuses == [[1, -9]]
    assert "does not answer" in errors


def test_a_step_of_several_subnets_brings_gradients_together_once() -> None:
    sizes: list[int] = []

    class Counting(Processes):
        def mean(self, tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

    trainer = tiny_trainer(processes=Counting())
    train(trainer)
    assert sizes == [sum(weight.numel() for weight in trainer.weights.values())] * NUM_STEPS


def test_processes_see_the_parts_of_one_batch_in_order() -> None:
    whole = list(StepSampler(10, [64, 96, 64], 6, 7, 2))
    parts = [list(StepSampler(10, [64, 96, 64], 6, 7, 2, (rank, 3))) for rank in range(3)]
    assert [a + b + c for a, b, c in zip(*parts, strict=True)] == whole
    assert all(len(keys) == 2 for part in parts for keys in part)


def test_every_nth_images_of_all_parts_are_all_images() -> None:
    people = SyntheticPeople(COCO, 8, 1, 64, 64)
    parts = [Subset(people, range(start, 7, 3)) for start in range(3)]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert sorted(image for part in parts for image in part.image_ids) == sorted(people.image_ids[:7])
    assert (parts[1][1].image == people[4].image).all()
    assert [image["id"] for image in parts[1].ground_truth()["images"]] == list(parts[1].image_ids)


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    Processes(0, 4).check_batch_size(8)
    with pytest.raises(UserError, match=r"batch_size must be a multiple of 4, .*got 10"):
        Processes(0, 4).check_batch_size(10)


def test_one_gpu_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supernet.compute.distributed.pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert Processes(3, 4, 1).device("cuda") == torch.device("cuda", 1)
    assert chosen == [1]
    assert Processes(3, 4, 1).device("cpu") == torch.device("cpu")
    assert SINGLE_PROCESS.device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="one GPU for 4 processes"):
        Processes(3, 4, 1).device("cuda:1")
    with pytest.raises(UserError, match="this machine has 2 GPUs"):
        Processes(3, 4, 2).device("cuda")
