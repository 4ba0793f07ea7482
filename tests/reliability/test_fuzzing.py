"""Every reader returns or names the file in one sentence, whatever the file holds. ``scripts/fuzz.py`` runs longer."""

from pathlib import Path

import cv2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.reliability.file_mutations import mutated, mutated_bytes, run
from tests.reliability.fuzz_targets import TARGETS

QUICK = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
THOROUGH = settings(QUICK, max_examples=500)


def check(name: str, folder: Path, how: settings) -> None:
    target = TARGETS[name]
    valid = target.valid(folder)
    content = valid if isinstance(valid, bytes) else target.encode(valid)
    assert run(target, folder, content)

    @how
    @given(data=st.data())
    def changed(data: st.DataObject) -> None:
        def choose(number: int) -> int:
            return data.draw(st.integers(0, number - 1))

        if isinstance(valid, bytes) or choose(4) == 0:
            run(target, folder, mutated_bytes(content, choose))
        else:
            run(target, folder, target.encode(mutated(valid, choose)))

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    changed()


@pytest.mark.parametrize("name", TARGETS)
def test_a_changed_file_is_read_or_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_changed_files_are_read_or_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, THOROUGH)
