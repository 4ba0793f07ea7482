"""What a latency table predicts for the networks that are measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from subnet_export.exported_model import Latency
from supernet.compute.machine import processor
from supernet.costs.latency_table import LatencyTable, check_settings
from supernet.errors import UserError
from supernet.litepose import LitePose


@dataclass(frozen=True)
class LatencyPrediction:
    """What a table predicted for one run, and how far that is from the measured median, in percent of this."""

    predicted_ms: float
    error: float
    table: str


class LatencyComparison:
    """A latency table beside a benchmark.

    Args:
        path: Of the table.
        runtimes: Names of the runtimes that are measured (``subnet_export.deployment.formats.RUNTIMES``).
        threads: They run with.

    Raises:
        UserError: The table cannot be read, its runtime is not measured, or it was measured with other settings.
    """

    def __init__(self, path: str, runtimes: Sequence[str], threads: int) -> None:
        self._path, self._table = path, LatencyTable.load(path)
        told = self._table.settings
        self._runtime = _name(told.runtime, told.precision)
        if self._runtime not in runtimes:
            raise UserError(
                f"latency table {path} is of runtime {self._runtime}, which is not measured; give --runtimes with it"
            )
        check_settings(told, replace(told, device=processor(), threads=threads, batch=1))

    def __call__(self, network: LitePose, latencies: Mapping[str, Latency]) -> dict[str, LatencyPrediction]:
        """Return the prediction for ``network`` under the name of its runtime, compared with the ``latencies``.

        Raises:
            UserError: The network has a block or a number of keypoints that was not measured, or the installed
                version of the runtime is another.
        """
        table, measured = self._table, latencies[self._runtime]
        if network.num_keypoints != table.num_keypoints:
            raise UserError(
                f"num_keypoints of latency table {self._path} is {table.num_keypoints}, that of the network "
                f"{network.num_keypoints}; give a table for this network"
            )
        check_settings(table.settings, replace(table.settings, runtime_version=measured.library.split()[1]))
        predicted = table.predict_ms(network.arch)
        error = 100 * (predicted / measured.p50_ms - 1)
        return {self._runtime: LatencyPrediction(round(predicted, 3), round(error, 2), self._path)}


def _name(runtime: str, precision: str) -> str:
    """Return what benchmarks call a runtime; tables of PyTorch are of the network as it is exported."""
    if runtime == "torch":
        return "torch_export" if precision == "f32" else f"torch_export_{precision}"
    return f"openvino_{precision}" if runtime == "openvino" else runtime
