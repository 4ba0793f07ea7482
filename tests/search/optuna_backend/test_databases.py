"""Two workers on one database: real servers that are started for the test and stopped after it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path

import pytest

from search.optuna_backend import storage
from search.optuna_backend.storage import open_storage
from supernet.errors import UserError
from tests.helpers.database_servers import free_port, mariadb, postgresql
from tests.search.optuna_backend.test_search import check_two_workers


@pytest.mark.parametrize("server", [postgresql, pytest.param(mariadb, marks=pytest.mark.slow)])
def test_two_workers_share_a_database_and_a_killed_ones_trial_is_retried(
    server: Callable[[], AbstractContextManager[str]], tmp_path: Path
) -> None:
    with server() as url:
        check_two_workers(url, tmp_path)


@pytest.mark.parametrize(("kind", "driver", "why"), [("postgresql", "psycopg", "refused"), ("mysql", "pymysql", "111")])
def test_a_server_that_is_not_there_is_one_sentence_without_the_password(
    kind: str, driver: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(driver) is None:
        pytest.skip(f"{driver} is not installed")
    monkeypatch.setattr(storage, "OPEN_WAIT_SECONDS", 0.0)
    with pytest.raises(UserError, match=rf"cannot open storage {kind}://me:.*{why}") as caught:
        open_storage(f"{kind}://me:secret@127.0.0.1:{free_port()}/db")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
