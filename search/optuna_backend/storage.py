"""Opens the storage of a study, and checks that an existing study is of the same search (no torch).

The storage is a journal file, on one machine or a shared file system, or any database that Optuna supports.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from search.objectives import AP
from search.optuna_backend.journal import open_journal
from supernet.errors import UserError
from supernet.version import PROJECT

OBJECTIVES = "the objectives"
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""Default drivers, those of our extras; the defaults of SQLAlchemy differ between its releases."""
_INVALID_ENTRY = (LookupError, ValueError, AssertionError, TypeError, AttributeError, OverflowError, RuntimeError)
"""What Optuna raises for lines of JSON that are not its own."""
OPEN_TRIES, OPEN_WAIT_SECONDS = 4, 0.5


def open_storage(storage: str | Path) -> BaseStorage:
    """Open a journal file, or a database by its URL (``postgresql://user@host/name``, ``mysql://...``, ``sqlite://...``).

    Raises:
        UserError: A damaged journal, an unknown kind of database, a missing driver, or no connection.
    """
    if "://" not in str(storage):
        path = Path(storage)
        journal = open_journal(path)
        try:
            return JournalStorage(journal)
        except _INVALID_ENTRY as error:
            raise UserError(f"{path} is not a journal of Optuna ({error!r}); choose another storage") from error
    shown = describe(storage)
    try:
        url = make_url(str(storage))
        url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
        return get_storage(_database(url.render_as_string(hide_password=False)))
    except ImportError as error:
        raise UserError(
            f"storage {shown} needs a database driver; run pip install '{PROJECT}[postgresql]', "
            f"'{PROJECT}[mysql]', or that of the driver of your database"
        ) from error
    except (ArgumentError, ValueError) as error:
        raise UserError(f"storage {shown} is not the URL of a database; write KIND://USER@HOST/NAME") from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        raise UserError(
            f"cannot open storage {shown} ({reason_of(error)}); check that it is running and that you may connect"
        ) from error


def reason_of(error: Exception) -> str:
    """Return the cause of an error of the storage in one line, without SQLAlchemy's link to its documentation."""
    return " ".join(str(error.__cause__ or error).split("\n(Background")[0].split())


def _database(url: str) -> RDBStorage:
    """Open a database, with retries: workers that start at the same time conflict when creating the tables."""
    for _ in range(OPEN_TRIES - 1):
        try:
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except DBAPIError:
            time.sleep(OPEN_WAIT_SECONDS)
    return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})


def describe(storage: str | Path) -> str:
    """Return the path of a storage, or its URL without the password."""
    try:
        return make_url(str(storage)).render_as_string(hide_password=True) if "://" in str(storage) else str(storage)
    except (ArgumentError, ValueError):
        return str(storage).partition("://")[0] + "://..."


def open_study(
    storage: BaseStorage, name: str, objectives: Sequence[str], identity: Mapping[str, str], place: str
) -> optuna.Study:
    """Open a study, or create it if there is none of that name.

    Args:
        storage: Storage of the study.
        name: Name of the study.
        objectives: "ap", which is maximized, alone or with costs, which are minimized.
        identity: Short texts that must be the same for all workers of the study, by a name for messages.
        place: The storage in messages.

    Raises:
        UserError: The existing study was created for something else, or by another program.
    """
    directions = [StudyDirection.MAXIMIZE if objective == AP else StudyDirection.MINIMIZE for objective in objectives]
    study = optuna.create_study(
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),  # never asked: see LocalStudy
        study_name=name,
        directions=directions,
        load_if_exists=True,
    )
    expected = {OBJECTIVES: ", ".join(objectives)} | dict(identity)
    stored = study.user_attrs
    if not stored.keys() & expected.keys() and study.get_trials(deepcopy=False):
        raise UserError(f"study {name} in {place} was created by another program; choose another with study=NAME")
    for key, value in expected.items():
        if stored.get(key, value) != value:
            raise UserError(
                f"study {name} in {place} was created with {key} {stored[key]}, but now it is {value}; "
                "restore it, or start another study with study=NAME"
            )
    if study.directions != directions:
        raise UserError(f"study {name} in {place} does not maximize AP; choose another with study=NAME")
    for key in expected.keys() - stored.keys():
        study.set_user_attr(key, expected[key])
    return study
