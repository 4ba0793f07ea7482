"""Where a study is kept, and whether it is the study that is meant (no torch).

A study lives in a journal file, on one machine or a shared file system, or in any database that Optuna knows.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from search.optuna_backend.journal import open_journal
from search.pareto import AP
from supernet.errors import UserError

OBJECTIVES = "the objectives"
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""Those of our extras, where a URL names none: SQLAlchemy's own choices differ between its releases."""
_NO_ENTRY = (LookupError, ValueError, AssertionError, TypeError, AttributeError, OverflowError, RuntimeError)
"""What Optuna was seen to raise on lines that are JSON, but none of its own."""
OPEN_TRIES, OPEN_WAIT_SECONDS = 4, 0.5


def open_storage(storage: str | Path) -> BaseStorage:
    """Open a journal file, or a database by its URL (``postgresql://user@host/name``, ``mysql://...``, ``sqlite://...``).

    Raises:
        UserError: A damaged journal, no such kind of database, its driver is not installed, or no connection.
    """
    if "://" not in str(storage):
        path = Path(storage)
        journal = open_journal(path)
        try:
            return JournalStorage(journal)
        except _NO_ENTRY as error:
            raise UserError(f"{path} is no journal of Optuna ({error!r}); name another storage") from error
    shown = describe(storage)
    try:
        url = make_url(str(storage))
        url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
        return get_storage(_database(url.render_as_string(hide_password=False)))
    except ImportError as error:
        raise UserError(
            f"storage {shown} needs a database driver; pip install 'litepose-supernet[postgresql]', "
            "'litepose-supernet[mysql]', or what your database needs"
        ) from error
    except (ArgumentError, ValueError) as error:
        raise UserError(f"storage {shown} is no URL of a database; write KIND://USER@HOST/NAME") from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        reason = " ".join(str(error.__cause__ or error).split("\n(Background")[0].split())
        raise UserError(f"cannot open storage {shown} ({reason}); check that it runs and lets you in") from error


def _database(url: str) -> RDBStorage:
    """Open a database; again if that fails, as workers that start at once are in each other's way making its tables."""
    for _ in range(OPEN_TRIES - 1):
        try:
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except DBAPIError:
            time.sleep(OPEN_WAIT_SECONDS)
    return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})


def describe(storage: str | Path) -> str:
    """Return a storage's path, or its URL without the password."""
    try:
        return make_url(str(storage)).render_as_string(hide_password=True) if "://" in str(storage) else str(storage)
    except (ArgumentError, ValueError):
        return str(storage).partition("://")[0] + "://..."


def open_study(
    storage: BaseStorage, name: str, objectives: Sequence[str], identity: Mapping[str, str], place: str
) -> optuna.Study:
    """Open a study, or make it if there is none of that name.

    Args:
        storage: Where it is kept.
        name: Of the study.
        objectives: "ap", which is maximised, alone or with costs, which are minimised.
        identity: What must be equal for all who work on the study, by name, in words that a user understands.
        place: What to call the storage in messages.

    Raises:
        UserError: The study there is was made for something else, or not by us.
    """
    directions = [StudyDirection.MAXIMIZE if objective == AP else StudyDirection.MINIMIZE for objective in objectives]
    study = optuna.create_study(
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),  # proposals are made elsewhere
        study_name=name,
        directions=directions,
        load_if_exists=True,
    )
    wanted = {OBJECTIVES: ", ".join(objectives)} | dict(identity)
    kept = study.user_attrs
    if not kept.keys() & wanted.keys() and study.get_trials(deepcopy=False):
        raise UserError(f"study {name} in {place} is none of this search; name another with study=NAME")
    for key, value in wanted.items():
        if kept.get(key, value) != value:
            raise UserError(
                f"study {name} in {place} was made with {key} {kept[key]}, but now it is {value}; "
                "restore what it was, or start another with study=NAME"
            )
    if study.directions != directions:
        raise UserError(f"study {name} in {place} is not one that maximises AP; name another with study=NAME")
    for key in wanted.keys() - kept.keys():
        study.set_user_attr(key, wanted[key])
    return study
