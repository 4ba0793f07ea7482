"""The trainings and scores of the study ``python -m scripts.studies.weight_sharing``, saved so that it can continue."""

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import torch

from scripts.studies.sharing_archs import single_arch_space, spread_archs
from supernet.checkpoints.supernet_file import load_supernet
from supernet.cli.console import progress_bar
from supernet.cli.hydra_app import compose_config
from supernet.cli.signals import stop_request
from supernet.compute.device import pick_device
from supernet.errors import UserError
from supernet.evaluation.subnet_scorer import SubnetScorer
from supernet.io import files
from supernet.io.schema import from_mapping
from supernet.pose.data.cached import CachedDataset
from supernet.pose.datasets import build
from supernet.pose.inference import InferenceSettings
from supernet.space import SearchSpace
from supernet.training.launch import start_or_resume
from supernet.training.phases import Phase, ScheduledPhase, schedule
from supernet.training.settings import TrainSettings

STRATEGIES = ("progressive", "sandwich")
"""The training strategies of supernets, files of ``conf/phases``."""


@dataclass(frozen=True)
class StudyPlan:
    """The options of a study that cannot change later.

    Attributes:
        space: Name of the search space.
        steps: Optimizer steps of every training.
        num_archs: Number of archs to compare.
        arch_seed: Seed of the choice of archs.
        changes: Options of ``conf/train.yaml`` for every training, as ``key=value``.
    """

    space: str
    steps: int
    num_archs: int
    arch_seed: int
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """One part of a study: a training and the scores of its network or subnets.

    Attributes:
        kind: "alone" or a name of ``STRATEGIES``.
        arch: Number of the arch that is trained alone, None for a supernet.
        seed: Seed of the training.
    """

    kind: str
    arch: int | None
    seed: int

    @property
    def name(self) -> str:
        """Name on the command line, the same for all seeds."""
        return self.kind if self.arch is None else f"{self.kind}:{self.arch}"

    @property
    def file_name(self) -> str:
        """Name of the files and folders of this part."""
        return f"seed{self.seed}_{self.name.replace(':', '_')}"


class Study:
    """A study in its folder.

    Args:
        folder: Folder of the study.
        plan: Options of the study.
        threads: Threads of the network on a CPU, None for all cores.

    Raises:
        UserError: The options of the plan are wrong or do not fit together.
    """

    def __init__(self, folder: Path, plan: StudyPlan, threads: int | None) -> None:
        self.folder, self.plan, self.threads = folder, plan, threads
        overrides = [f"space={plan.space}", f"steps={plan.steps}", "evaluation.flip_test=true", "report_random=0"]
        overrides += [*plan.changes, f"threads={'null' if threads is None else threads}"]
        self._configs = {kind: compose_config("train", [f"phases={kind}", *overrides]) for kind in STRATEGIES}
        self._configs["alone"] = self._configs["progressive"] | {
            "phases": phases_of_largest(self._configs["progressive"]["phases"])
        }
        if threads is not None:
            torch.set_num_threads(threads)
        cv2.setNumThreads(0)
        self.base = self._configs["progressive"]
        self.space = SearchSpace.from_dict(self.base["space"])
        self.keypoints = build(self.base["dataset"], "train").keypoints
        self.archs = spread_archs(self.space, plan.num_archs, self.keypoints.num, plan.arch_seed)
        for part in self.parts([0]):  # checks all options before anything is written
            from_mapping(TrainSettings, self.config(part), "")
            self.scheduled(part)

    def parts(self, seeds: Iterable[int]) -> list[Part]:
        """Return all parts by seed, the supernets first."""
        numbers = range(len(self.archs))
        return [
            part
            for seed in seeds
            for part in (
                *(Part(kind, None, seed) for kind in STRATEGIES),
                *(Part("alone", number, seed) for number in numbers),
            )
        ]

    def config(self, part: Part) -> dict[str, Any]:
        """Return the plain configuration of ``python -m supernet.train`` for the training of ``part``."""
        config = self._configs[part.kind] | {"seed": part.seed, "runs": str(self.folder / "runs")}
        if part.arch is not None:
            config["space"] = single_arch_space(self.archs[part.arch], f"{self.space.name}_{part.arch}").to_dict()
        return config | {"name": part.file_name}

    def scheduled(self, part: Part) -> list[ScheduledPhase]:
        """Return the phases of ``part`` with their steps."""
        config = self.config(part)
        phases = [from_mapping(Phase, phase, "phases") for phase in config["phases"]]
        return schedule(phases, SearchSpace.from_dict(config["space"]), self.plan.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values of everything that must not change when the study continues."""
        phases = {kind: config["phases"] for kind, config in self._configs.items()}
        plan = asdict(self.plan) | {"changes": list(self.plan.changes)}
        return {"plan": plan, "phases": phases, "archs": [arch.to_dict() for arch in self.archs]}

    @property
    def num_threads(self) -> int:
        """Threads of the network on a CPU."""
        return torch.get_num_threads()

    def run_folder(self, part: Part) -> Path:
        """Return the run folder of the training of ``part``."""
        return self.folder / "runs" / "train" / part.file_name

    def steps_done(self, part: Part) -> int:
        """Return the number of logged steps of ``part``."""
        if (self.run_folder(part) / "summary.json").exists():
            return self.plan.steps
        with suppress(OSError, ValueError, IndexError):  # no log yet, or its last line is incomplete
            lines = (self.run_folder(part) / "train.jsonl").read_text("utf-8").splitlines()
            return int(json.loads(lines[-1])["step"]) + 1
        return 0

    def arch_numbers(self, part: Part) -> list[int]:
        """Return the numbers of the archs that ``part`` scores."""
        return list(range(len(self.archs))) if part.arch is None else [part.arch]

    def score(self, part: Part, arch: int) -> dict[str, float] | None:
        """Return the metrics of arch number ``arch`` after the training of ``part``, None if there are none yet."""
        path = self._score_file(part, arch)
        if not path.exists():
            return None
        metrics: dict[str, float] = files.read_json(path, "score")["metrics"]
        return metrics

    def ap(self, part: Part, arch: int) -> float | None:
        """Return the AP of arch number ``arch`` after the training of ``part``, None if there is none yet."""
        metrics = self.score(part, arch)
        return None if metrics is None else metrics["AP"]

    def train_seconds(self, part: Part) -> float | None:
        """Return the seconds of the training of ``part`` without its final scores, None if it is not finished."""
        path = self.run_folder(part) / "summary.json"
        if not path.exists():
            return None
        seconds: float = files.read_json(path, "summary")["train_seconds"]
        return seconds

    def is_done(self, part: Part) -> bool:
        """Whether ``part`` is trained and all its scores exist."""
        return all(self._score_file(part, arch).exists() for arch in self.arch_numbers(part))

    def run(self, part: Part) -> None:
        """Train and score ``part``, or continue where an interrupted run of it stopped.

        Raises:
            UserError: The training or scoring was stopped, or the training failed.
        """
        folder = self.run_folder(part)
        if not (folder / "summary.json").exists():
            config = self.config(part)
            if any(folder.glob("checkpoint*")):
                resumed = config | {"resume": str(folder)}
                start_or_resume(resumed, [f"resume={folder}", f"threads={self.threads}"])
            else:
                if folder.exists():  # stopped before its first checkpoint
                    shutil.rmtree(folder)
                start_or_resume(config, [])
        trained = load_supernet(folder)
        settings = from_mapping(InferenceSettings, trained.evaluation, "evaluation")
        supernet = trained.supernet.to(pick_device(self.base["device"]))
        scorer = SubnetScorer(supernet, *self._images, settings, self.base["num_calibration_images"])
        missing = [arch for arch in self.arch_numbers(part) if not self._score_file(part, arch).exists()]
        with progress_bar() as progress, stop_request() as stop_requested:
            task = progress.add_task("scoring", total=len(missing), note="")
            for arch in missing:
                metrics = scorer(self.archs[arch]).metrics
                value = {"part": part.name, "seed": part.seed, "arch": self.archs[arch].to_dict(), "metrics": metrics}
                files.write_json(self._score_file(part, arch), value)
                progress.update(task, advance=1, note=f"arch {arch}: AP {metrics['AP']:.3f}")
                if stop_requested():
                    raise UserError(f"stopped after a score of {part.name}; run the same command to continue")

    @cached_property
    def _images(self) -> tuple[CachedDataset, CachedDataset]:
        """Images to calibrate subnets on, and images to score them on."""
        return CachedDataset(build(self.base["dataset"], "train")), CachedDataset(build(self.base["dataset"], "test"))

    def _score_file(self, part: Part, arch: int) -> Path:
        return self.folder / "scores" / f"{part.file_name}_arch_{arch}.json"


def phases_of_largest(phases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the phases of a supernet that train its largest subnet alone.

    They are the training recipe of a single network, with the same learning rates and share of small inputs. Shares of
    phases are relative, so without the other phases they are stretched to all steps.

    Raises:
        UserError: There are none.
    """
    alone = []
    for value in phases:
        phase = from_mapping(Phase, value, "phases")
        if set(phase.subnets) == {"largest"} and phase.teacher == "none":
            alone.append(value)
    if not alone:
        raise UserError("no phase trains the largest subnet alone; use the phases of the progressive strategy")
    return alone
