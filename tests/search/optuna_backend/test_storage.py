"""Studies are opened in any storage, and only by searches of the same things."""

from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage

from search.optuna_backend.storage import describe, open_storage, open_study
from supernet.errors import UserError


def study(storage: BaseStorage, objectives: tuple[str, ...] = ("ap",), space: str = "nano (1f)") -> optuna.Study:
    return open_study(storage, "search", objectives, {"the space": space, "the constraint": "{}"}, "the file")


@pytest.mark.parametrize("place", ["study.journal", "new/folder/study.journal", "sqlite:///{}/study.db"])
def test_a_study_is_found_again(tmp_path: Path, place: str) -> None:
    place = place.format(tmp_path) if "://" in place else str(tmp_path / place)
    study(open_storage(place)).set_user_attr("mark", 1)
    assert study(open_storage(place)).user_attrs["mark"] == 1


def test_ap_is_maximized_and_costs_are_minimized() -> None:
    directions = study(InMemoryStorage(), ("ap", "macs", "params")).directions
    assert [direction.name for direction in directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]


def test_another_space_is_refused_with_both_values() -> None:
    storage = InMemoryStorage()
    study(storage)
    with pytest.raises(UserError, match=r"search in the file .* the space nano \(1f\), .* nano \(2"):
        study(storage, space="nano (2e)")


def test_other_objectives_are_refused() -> None:
    storage = InMemoryStorage()
    study(storage)
    with pytest.raises(UserError, match=r"the objectives ap, .* ap, macs"):
        study(storage, ("ap", "macs"))


def test_a_study_of_another_program_is_refused() -> None:
    storage = InMemoryStorage()
    optuna.create_study(storage=storage, study_name="search").ask()
    with pytest.raises(UserError, match=r"study search in the file .*another program"):
        study(storage)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nosuch://host/name", "nosuch"),
        ("://", "not the URL of a database"),
        ("sqlite:////nosuch/folder/study.db", "cannot open storage sqlite:////nosuch/folder/study.db .*unable to open"),
        ("oracle://me:secret@127.0.0.1:1/x", "oracle://me.*needs a database driver"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named_in_one_line(place: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_storage(place)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    path.write_text('{"img_size": 256}\n')
    with pytest.raises(UserError, match="line 1 of the study"):
        open_storage(path)
    for entry in (
        '{"op_code": 4}',
        '{"op_code": "x"}',
        '{"op_code": 0, "worker_id": 1, "study_name": [], "directions": 7}',
    ):
        path.write_text(f"{entry}\n")
        with pytest.raises(UserError, match=r"arch\.json is not a journal"):
            open_storage(path)
        assert path.read_text() == f"{entry}\n"
    path.write_text("[" * 5000 + "\n")
    with pytest.raises(UserError, match="line 1 of the study"):
        open_storage(path)


def test_passwords_are_never_shown() -> None:
    assert describe("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert describe("runs/study.journal") == "runs/study.journal"
    assert "secret" not in describe("postgresql://me:secret@host:port/db")


def test_a_study_that_minimizes_ap_is_refused() -> None:
    storage = InMemoryStorage()
    optuna.create_study(storage=storage, study_name="search", direction="minimize")
    with pytest.raises(UserError, match="does not maximize AP"):
        study(storage)
