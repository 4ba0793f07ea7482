"""What the documentation says can be done: every command on every page exists, and those that can run are run."""

import ast
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from scripts.site import notebook
from search.api import train
from search.lut.devices.merge import merge
from subnet_export.deployment.formats import FORMATS, missing
from supernet.cli.commands import COMMANDS
from supernet.cli.grammar import as_overrides
from supernet.cli.hydra_app import compose_config
from supernet.cli.option_docs import all_options, command_page
from supernet.space import SearchSpace
from tests.contracts.documented_commands import ROOT, Documented, commands, pages, quick
from tests.contracts.latency_measurements import fake_measurements
from tests.helpers.coco_files import write_people

ALL = list(commands())
CONFIGURED = {command.module: command.config for command in COMMANDS if command.config is not None}
RUN = [command for command in ALL if not command.needs and command.line.split()[0] != "make"]


class Parsed(Exception):
    """Raised in place of a command's work."""


def module_of(name: str) -> Any:
    found = importlib.util.find_spec(name)
    assert found is not None, f"there is no module {name}"
    return import_module(f"{name}.__main__" if found.submodule_search_locations else name)


def test_commands_are_found_on_every_kind_of_page() -> None:
    seen = {command.page for command in ALL}
    assert {"README.md", "docs/quickstart.md", "docs/howto/predict.md", "docs/deployment/onnx.md"} <= seen
    assert len(RUN) > 30


@pytest.mark.parametrize("command", [command for command in ALL if command.words], ids=str)
def test_a_documented_command_and_its_options_exist(command: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    module, *arguments = command.words
    if module in CONFIGURED:
        is_sweep = "--multirun" in arguments
        words = [word for word in arguments if not word.startswith(("-", "hydra"))]
        words = as_overrides(words, all_options(command_page(CONFIGURED[module])))
        compose_config(CONFIGURED[module], [re.sub(r",.*|\$\{.*", "", word) if is_sweep else word for word in words])
        return

    def parsed(job: Any) -> None:
        raise Parsed

    imported = module_of(module)
    monkeypatch.setattr("supernet.cli.console.run_command", parsed)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    if module in ("supernet.doctor", "supernet.cli.entry.completion", "http.server") or module.startswith("scripts."):
        return
    with pytest.raises(Parsed):
        imported.main()


@pytest.mark.parametrize("command", [command for command in ALL if not command.words], ids=str)
def test_other_programs_are_marked_or_targets_of_the_makefile(command: Documented) -> None:
    program, *words = shlex.split(command.line, comments=True)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert words[0] in targets
    else:
        assert command.needs, "say what it needs: <!-- needs: ... --> before its block"


def test_python_on_the_pages_can_be_parsed() -> None:
    for page, text in pages().items():
        for block in re.findall(r"^ *```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
            ast.parse(textwrap.dedent(block), page)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    names: dict[str, Any] = {}
    for kind, text in notebook.cells(ROOT / "docs" / "quickstart.ipynb"):
        if kind == "code":
            exec(compile(text, "quickstart.ipynb", "exec"), names)  # noqa: S102 - our own notebook
    assert (tmp_path / "people.jpg").exists()
    assert names["people"].image.shape == (96, 96, 3)
    largest = names["supernet"].subnet("largest")
    assert names["result"].best.costs["macs"] <= 0.6 * largest.costs["macs"]


def test_the_notebook_is_stored_without_outputs() -> None:
    value = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text("utf-8"))
    assert not any(cell.get("outputs") for cell in value["cells"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name, and a run of each command to start from."""
    folder = tmp_path_factory.mktemp("documentation")
    for seed, split in enumerate(("train", "val", "test")):
        content = write_people(folder / "mine", 6, seed, split)
        content["categories"] = content["categories"][:1]
        (folder / "mine" / "annotations").mkdir(exist_ok=True)
        (folder / "mine" / "annotations" / f"{split}.json").write_text(json.dumps(content))
    image = PIL.Image.fromarray(np.full((96, 128, 3), 90, np.uint8))
    for name in ("photo.jpg", "folder/1.jpg", "shots/day/2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    (folder / "measurements.jsonl").write_text(fake_measurements(SearchSpace.load("nano"), 17, 12))
    merge([folder / "measurements.jsonl"]).save(folder / "table.json")
    splits = {"train": {"num_images": 8}, "val": {"num_images": 3}, "test": {"num_images": 3}}
    small: dict[str, Any] = {"steps": 2, "batch_size": 2, "report_random": 0, "num_calibration_images": 4, "threads": 1}
    runs = folder / "runs"
    supernet = train(phases="sandwich", dataset_options=splits, runs=runs, show=False, **small)
    search: dict[str, Any] = {"population": 2, "generations": 1, "num_images": 2, "baseline": 0, "top_k": 1}
    result = supernet.search(macs="80M", runs=runs, show=False, **search)
    result.best.export("onnx", runs=runs, show=False, calibration_images=4, check_images=2)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", sorted({command.page for command in RUN}))
def test_commands_run_in_the_order_of_their_page(
    page: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(shutil.copytree(place, tmp_path / "place", symlinks=True))  # no page sees the runs of another
    monkeypatch.chdir(place)
    chosen = FORMATS.get(Path(page).stem)
    if chosen is not None and (package := missing(chosen.packages)) is not None:
        pytest.skip(f"{package} is not installed")
    for command in [command for command in RUN if command.page == page]:
        module, *arguments = quick(command, place / "mine")
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((place / "photo.jpg").read_bytes())))
        for path in ("table.json", "kit.zip", "results.json"):  # which are never overwritten
            if (path in arguments and "--output" in arguments[: arguments.index(path)]) or path == "results.json":
                (place / path).unlink(missing_ok=True)
        status: object = 0
        try:
            module_of(module).main()
        except SystemExit as ended:
            status = ended.code
        shown = capsys.readouterr()
        assert status in (0, None), f"{command}\n{' '.join([module, *arguments])}\n{shown.err}"
    assert os.getcwd() == str(place)
