"""The checking command: its output, its files and its exit status."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from supernet.errors import UserError
from supernet.pose.check import check, main
from tests.helpers.coco_files import CATEGORY, write_custom_set
from tests.supernet.pose.coco.test_exif_choice import data_set

OWN = ["dataset=custom", "dataset.category=dancer", "dataset.keypoints.sigmas=[0.05,0.06,0.06,0.08,0.08]"]


def configured(*overrides: str) -> dict[str, Any]:
    with initialize_config_module("conf", version_base="1.3"):
        config = OmegaConf.to_container(compose("check", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


@dataclass(frozen=True)
class Done:
    """Exit status and output of the command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Calls the entry point as from a command line."""

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["check", *arguments])
        code: str | int | None = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return Done(int(code or 0), shown.out, shown.err)

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_custom_set(tmp_path, 4)
    return tmp_path


def test_a_clean_set_exits_with_0_and_shows_its_keypoints(root: Path, run: Callable[..., Done]) -> None:
    done = run(*OWN, f"dataset.root={root}", f"output={root / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "5 keypoints (custom): no faults" in done.stdout
    assert "mirrored pairs: LHand/RHand, LFoot/RFoot" in done.stdout
    summary = json.loads((root / "out" / "summary.json").read_text())
    assert [part["split"] for part in summary["splits"]] == ["train", "val and test"]
    assert [part["num_opened"] for part in summary["splits"]] == [4, 4]
    assert summary["num_faults"] == 0
    assert summary["splits"][0]["keypoints"]["names"] == CATEGORY["keypoints"]


def test_faults_exit_with_1_and_stand_in_the_table_and_the_summary(root: Path, run: Callable[..., Done]) -> None:
    (root / "train" / "1_2.png").write_bytes(b"no image")
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["id"] = content["annotations"][1]["id"]
    file.write_text(json.dumps(content))
    done = run(*OWN, f"dataset.root={root}", f"output={root / 'out'}", "splits=[train]")
    assert done.returncode == 1
    assert "repeated ids" in done.stdout
    assert "images that cannot be decoded" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    (part,) = json.loads((root / "out" / "summary.json").read_text())["splits"]
    assert {kind: fault["count"] for kind, fault in part["faults"].items()} == {"repeated_id": 1, "undecodable": 1}
    assert "1_2.png cannot be decoded" in part["faults"]["undecodable"]["examples"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dataset=coco"], "dataset.root is not set"),
        (["dataset=coco", "dataset.root=/absent"], "there is no annotation file /absent/annotations/"),
        (["dataset=synthetic"], "synthetic"),
        (["dataset=coco", "dataset.root=/absent", "limits=3"], "limits"),
        (["dataset=coco", "dataset.root=/absent", "splits=[trian]"], "no split 'trian'"),
        (["dataset=coco", "dataset.root=/absent", "threads=0"], "threads must be at least 1, got 0"),
    ],
)
def test_mistakes_exit_with_2_and_one_sentence(arguments: list[str], message: str, run: Callable[..., Done]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_every_kind_of_broken_image_is_reported(root: Path) -> None:
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    (root / "train" / content["images"][0]["file_name"]).unlink()
    content["images"][1]["width"] += 1
    content["annotations"].append(
        {
            **content["annotations"][0],
            "id": 999,
            "image_id": content["images"][2]["id"],
            "iscrowd": 1,
            "segmentation": "x",
        }
    )
    shutil.copy(root / "train" / content["images"][2]["file_name"], root / "train" / content["images"][0]["file_name"])
    (root / "train" / content["images"][3]["file_name"]).unlink()
    file.write_text(json.dumps(content))
    (report,) = check(configured(*OWN, f"dataset.root={root}", "splits=[train]"))
    counted = {kind: count for kind, count in report.counts.items() if count}
    assert counted == {"wrong_size": 1, "segmentation": 1, "missing": 1}


def _remove_image(content: dict[str, Any], folder: Path) -> None:
    (folder / content["images"][0]["file_name"]).unlink()


def _remove_image_without_people(content: dict[str, Any], folder: Path) -> None:
    _remove_image(content, folder)
    image_id = content["images"][0]["id"]
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] != image_id]


def _break_segmentation(content: dict[str, Any], folder: Path) -> None:
    content["annotations"].append({**content["annotations"][0], "id": 999, "iscrowd": 1, "segmentation": "x"})


@pytest.mark.parametrize(
    ("split", "change", "options", "effect"),
    [
        ("train", _remove_image, [], "stops"),  # one of four is more than 1 %
        ("train", _remove_image, ["dataset.max_bad_share=0.25"], "skips"),
        ("train", _remove_image, ["dataset.max_bad_share=0.25", "dataset.on_bad_image=fail"], "stops"),
        ("train", _remove_image_without_people, [], "skips"),
        ("train", _remove_image_without_people, ["dataset.train.only_with_people=false"], "stops"),
        ("val", _remove_image, ["dataset.max_bad_share=0.25"], "stops"),
        ("val", _break_segmentation, [], "continues"),
    ],
)
def test_the_effect_of_a_broken_image_is_that_of_its_split(
    split: str,
    change: Callable[[dict[str, Any], Path], None],
    options: list[str],
    effect: str,
    root: Path,
    run: Callable[..., Done],
) -> None:
    file = root / "annotations" / f"{split}.json"
    content = json.loads(file.read_text())
    change(content, root / split)
    file.write_text(json.dumps(content))
    done = run(*OWN, f"dataset.root={root}", *options)
    rows = [line for line in done.stdout.splitlines() if "unreadable" in line or "segmentation" in line]
    assert [effect in row.split() for row in rows] == [True], done.stdout


def test_images_in_an_archive_are_checked_too(root: Path) -> None:
    with zipfile.ZipFile(root / "train.zip", "w") as archive:
        for path in sorted((root / "train").iterdir())[1:]:
            archive.write(path, f"train/{path.name}")
    options = [*OWN, f"dataset.root={root}", "splits=[train]"]
    (report,) = check(configured(*options, "dataset.train.images=train.zip@", "threads=2"))
    assert (report.counts["missing"], report.num_faults, report.num_opened) == (1, 1, 4)
    (report,) = check(configured(*options, "dataset.train.images=train.zip", "limit=2"))
    assert report.num_opened == 2
    with pytest.raises(UserError, match=r"train\.zip has no files .*'val'"):
        check(configured(*options, "dataset.train.images=train.zip@val"))


@pytest.mark.data
def test_the_real_samples_have_no_faults(data_folder: Path) -> None:
    (coco,) = check(configured("dataset=coco", f"dataset.root={data_folder / 'coco_mini'}", "splits=[train]"))
    assert (coco.num_faults, coco.num_opened, coco.num_people) == (0, 80, 86)
    sample = ["dataset=crowdpose", f"dataset.root={data_folder / 'crowdpose_sample'}", "splits=[val]"]
    (crowd,) = check(configured(*sample, "dataset.val.annotations=annotations/crowdpose_val.json"))
    assert (crowd.num_faults, crowd.num_opened, crowd.num_people) == (0, 2, 4)


def test_the_training_split_decides_the_frame_of_the_others(tmp_path: Path) -> None:
    for name, images in (("a", [((48, 32), 6, True)]), ("b", [((32, 32), 6, True)])):
        (tmp_path / name).mkdir()
        data_set(tmp_path / name, images)
    options = ["dataset=coco", f"dataset.root={tmp_path}", "dataset.exif=auto"]
    for split, name in (("train", "a"), ("val", "b")):
        options += [f"dataset.{split}.annotations={name}/people.json", f"dataset.{split}.images={name}/images"]
    reports = check(configured(*options, "splits=[train,val]"))
    assert [(report.exif, report.num_faults) for report in reports] == [("turned", 0), ("turned", 0)]
    (alone,) = check(configured(*options, "splits=[val]"))
    assert alone.counts["exif"] == 1
