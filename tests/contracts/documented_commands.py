"""The commands on the pages of the documentation: found, split into words, and given small sizes to run quickly."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.site import formats
from supernet.cli.commands import COMMANDS, SCRIPT

ROOT = Path(__file__).parents[2]
PACKAGES = ("supernet", "search", "subnet_export", "scripts")
_NEEDS = re.compile(r"<!-- needs: (.+) -->")


@dataclass(frozen=True)
class Documented:
    """One command line on a page.

    Attributes:
        page: The page, relative to the repository.
        line: The command on one line.
        needs: What it needs that a test does not have, such as a GPU; empty for a command that tests run.
    """

    page: str
    line: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"

    @property
    def words(self) -> list[str]:
        """Module and arguments of a command of this project, after ``-m``; empty for another program."""
        words = shlex.split(self.line, comments=True)
        for end, word in enumerate(words):
            if word in ("|", "&&", ">", ";") and {"-m", SCRIPT} & set(words[:end]):
                words = words[:end]
                break
        if SCRIPT in words[:-1]:
            name, *arguments = words[words.index(SCRIPT) + 1 :]
            modules_by_name = {command.name: command.module for command in COMMANDS}
            return [modules_by_name[name], *arguments] if name in modules_by_name else []
        modules = [place + 1 for place, word in enumerate(words[:-1]) if word == "-m"]
        starts = [place for place in modules if words[place].partition(".")[0] in PACKAGES]
        return words[starts[0] :] if starts else []


def pages() -> dict[str, str]:
    """Return the text of README, of every page, and of the pages that are made from the registry of formats."""
    texts = {"README.md": (ROOT / "README.md").read_text("utf-8")}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        texts[path.relative_to(ROOT).as_posix()] = path.read_text("utf-8")
    for name in formats.names():
        place = f"docs/{formats.place(name)}"
        texts[place] = formats.page(name, texts.get(place, ""))
    return texts


def commands() -> Iterator[Documented]:
    """Yield every command line of every page, in order."""
    for page, text in pages().items():
        needs, in_block, pending = "", False, ""
        for line in text.splitlines():
            stripped = line.strip()
            if match := _NEEDS.fullmatch(stripped):
                needs = match[1]
            elif stripped == "```bash":
                in_block = True
            elif in_block and stripped.startswith("```"):
                in_block, needs = False, ""
            elif in_block:
                pending += stripped.removesuffix("\\")
                if not stripped.endswith("\\"):
                    if pending and not pending.startswith("#"):
                        yield Documented(page, pending, needs)
                    pending = ""
            elif stripped and not stripped.startswith("<!--"):
                needs = ""


_TRAINING = ["steps=4", "batch_size=2", "report_random=0", "num_calibration_images=4", "threads=1"]
_DRAWN = [f"dataset.{split}.num_images={number}" for split, number in (("train", 8), ("val", 3), ("test", 3))]
_SEARCH = ["num_images=2", "baseline=1", "top_k=1", "num_calibration_images=4", "threads=1"]
SMALL = {
    "supernet.train": _TRAINING,
    "supernet.evaluate": ["num_images=2", "num_calibration_images=4", "threads=1"],
    "supernet.pose.check": [],
    "search.evolve": [*_SEARCH, "population=2", "generations=1"],
    "search.optuna_search": [*_SEARCH, "evaluations=3", "startup=2"],
    "subnet_export": ["--num-images", "2", "--calibration-images", "4", "--check-images", "2", "--threads", "1"],
    "subnet_export.predict": ["--threads", "1"],
    "subnet_export.benchmark": ["--runtimes", "torch", "--repeats", "10", "--images", "2"],
}
"""Options that make a command quick, by module."""


def quick(command: Documented, people: Path) -> list[str]:
    """Return module and arguments of a command with small sizes.

    Args:
        command: The command.
        people: A data set with keypoints of its own, which takes the place of ``/data/mine``.
    """
    module, *arguments = (word.replace("/data/mine", str(people)) for word in command.words)
    added = list(SMALL.get(module, []))
    if module == "supernet.train":
        arguments = [word for word in arguments if not word.startswith(("minutes=", "dataset.train.num_images="))]
        added += [] if any(word.startswith(("phases=", "experiment=")) for word in arguments) else ["phases=sandwich"]
        added += [] if "dataset=custom" in arguments else _DRAWN
        added += ["steps=64"] if "phases=progressive" in arguments else []  # its shortest phases get one of 64
    if module == "search.evolve" and "predictor=true" in arguments:
        added += ["population=12", "prediction.first=10"]
    if "--model" in arguments and module == "subnet_export":
        added = ["--check-images", "2", "--threads", "1", *(["--num-images", "2"] if "--dataset" in arguments else [])]
    if module == "subnet_export.finetune":
        arguments = [
            "2" if before == "--steps" else word for before, word in zip(["", *arguments], arguments, strict=False)
        ]
        added = [] if "--steps" in arguments else ["--steps", "2"]
    return [module, *arguments, *added]
