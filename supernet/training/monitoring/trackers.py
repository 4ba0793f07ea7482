"""Where the figures of a training run go besides ``train.jsonl``: TensorBoard, MLflow, Weights & Biases, or nowhere.

A tracker is opened with a run, gets the figures of each logged step, and is closed with the run. One that fails later,
such as a server that cannot be reached, never stops a training: it is left out with a warning.
"""

import importlib.util
import logging
import os
import shlex
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from supernet.errors import UserError, missing_packages
from supernet.io import files
from supernet.version import PROJECT

TrackerName = Literal["tensorboard", "wandb", "mlflow", "none"]
STATE_FILE = "tracker.json"
"""In the run folder: the tracker's own number of the run, with which a resumed run continues."""
_EXTRAS = {"tensorboard": "train", "wandb": "wandb", "mlflow": "mlflow"}
"""Extra of this project that installs each package."""
_MOST_LETTERS, _MOST_PARAMS = 250, 100
"""Of an option's value, and options at once: limits of MLflow's servers."""

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Takes the figures of one training run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the figures of a step.

        Raises:
            OSError: The disk is full.
        """
        ...

    def close(self, is_finished: bool) -> None:
        """End the recording; ``is_finished`` is False for a run that will be resumed or failed.

        Raises:
            OSError: The disk is full.
        """
        ...


def check_installed(name: TrackerName) -> None:
    """Raise UserError if the package of a tracker is not installed."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise missing_packages(f"tracker={name}", [name], _EXTRAS[name], ", or set tracker=none")


def open_tracker(name: TrackerName, folder: Path, start: int, config: Mapping[str, Any]) -> Tracker:
    """Open a tracker.

    Args:
        name: Which one.
        folder: The run folder.
        start: Next step; TensorBoard leaves out what was recorded from this step on.
        config: Plain configuration of the run.

    Raises:
        OSError: The folder cannot be written.
        UserError: The package is not installed, or the tracker's server or store cannot be used.
    """
    check_installed(name)
    openers: dict[TrackerName, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoardTracker(folder, start),
        "mlflow": lambda: Unfailing(name, lambda: MlflowTracker(folder, config)),
        "wandb": lambda: Unfailing(name, lambda: WandbTracker(folder, config)),
        "none": NoTracker,
    }
    assert openers.keys() == set(get_args(TrackerName))
    return openers[name]()


def how_to_view(name: TrackerName, folder: Path) -> str:
    """Return the command that shows the curves of a run; empty without a tracker."""
    if name == "mlflow":
        return f"mlflow ui --backend-store-uri {shlex.quote(mlflow_uri(folder))}"
    if name == "tensorboard":
        return f"tensorboard --logdir {shlex.quote(str(folder))}"
    return "Weights & Biases" if name == "wandb" else ""


class NoTracker:
    """Records nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def close(self, is_finished: bool) -> None:
        """Do nothing."""


class TensorBoardTracker:
    """Writes TensorBoard events into the run folder.

    On a full disk TensorBoard's thread fails first. Its error is raised again at the next write, where the log makes
    it a UserError, so the thread's own traceback is suppressed.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here, because it is slow to import

        self._hook = threading.excepthook
        threading.excepthook = self._suppress_disk_errors
        try:
            self._events = SummaryWriter(str(folder), purge_step=start)
        except BaseException:
            threading.excepthook = self._hook
            raise

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the figures of a step."""
        for name, value in values.items():
            self._events.add_scalar(f"train/{name}", value, step)

    def close(self, is_finished: bool) -> None:
        """Write what is left."""
        try:
            self._events.close()
        finally:
            threading.excepthook = self._hook

    def _suppress_disk_errors(self, failed: threading.ExceptHookArgs) -> None:
        if not isinstance(failed.exc_value, OSError):
            self._hook(failed)


class MlflowTracker:
    """Records in MLflow, in a database beside the runs or where MLFLOW_TRACKING_URI says."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=mlflow_uri(folder))
        self._run = _known_run(folder, "mlflow")
        if self._run is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = self._client.get_experiment_by_name(name)
            identity = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
            self._run = str(self._client.create_run(identity, run_name=folder.name).info.run_id)
            _remember_run(folder, "mlflow", self._run)
            params = [Param(option, value[:_MOST_LETTERS]) for option, value in flat(config).items()]
            for first in range(0, len(params), _MOST_PARAMS):
                self._client.log_batch(self._run, params=params[first : first + _MOST_PARAMS])
        else:
            self._client.update_run(self._run, status="RUNNING")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the figures of a step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(f"train/{name}", value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, is_finished: bool) -> None:
        """Set the state of the run."""
        self._client.set_terminated(self._run, "FINISHED" if is_finished else "KILLED")


class WandbTracker:
    """Records in Weights & Biases; WANDB_MODE=offline keeps the figures on this machine, in the run folder."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        known = _known_run(folder, "wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            dir=str(folder),
            config=dict(config),
            id=known,
            resume="allow",
        )
        if known is None:
            _remember_run(folder, "wandb", str(self._run.id))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the figures of a step."""
        self._run.log({f"train/{name}": value for name, value in values.items()}, step=step)

    def close(self, is_finished: bool) -> None:
        """Send what is left."""
        self._run.finish(exit_code=0 if is_finished else 1)


class Unfailing:
    """A tracker whose failures never stop a training: after the first one it records nothing more.

    Raises:
        UserError: It cannot be opened.
    """

    def __init__(self, name: str, opened: Callable[[], Tracker]) -> None:
        self._name = name
        self._tracker: Tracker | None = None
        try:
            self._tracker = opened()
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"tracker={name} cannot be used: {reason:.300}; repair it, or set tracker=none") from error

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the figures of a step, if the tracker still works."""
        self._try(lambda tracker: tracker.log(step, values))

    def close(self, is_finished: bool) -> None:
        """End the recording, if the tracker still works."""
        self._try(lambda tracker: tracker.close(is_finished))

    def _try(self, use: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            use(self._tracker)
        except Exception as error:  # noqa: BLE001 - trackers raise errors of many libraries
            self._tracker = None
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning("tracker %s failed and records nothing more of this run: %.300s", self._name, reason)


def mlflow_uri(folder: Path) -> str:
    """Return the place of MLflow's records of the run in ``folder``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder.parent.parent / 'mlflow.db').resolve()}"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a configuration with one level, its keys joined by points, and values as text."""
    values: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        values |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return values


def _known_run(folder: Path, tracker: str) -> str | None:
    """Return the number that a tracker gave to the run in ``folder`` before it was resumed."""
    if not (folder / STATE_FILE).exists():
        return None
    value = files.read_json(folder / STATE_FILE, "tracker's state")
    number = value.get(tracker) if isinstance(value, Mapping) else None
    return number if isinstance(number, str) else None


def _remember_run(folder: Path, tracker: str, number: str) -> None:
    files.write_json(folder / STATE_FILE, {tracker: number})
