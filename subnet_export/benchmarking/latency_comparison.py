"""Compares measured latencies with those that a latency table predicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from subnet_export.deployment.formats import RUNTIMES
from subnet_export.deployment.runtimes import Runtime
from subnet_export.exported_model import Latency
from supernet.compute.device import device_name
from supernet.costs.latency_table import LatencyTable, check_settings
from supernet.errors import UserError
from supernet.litepose import LitePose


@dataclass(frozen=True)
class LatencyPrediction:
    """The latency that ``table`` predicts, and its ``error`` in percent of the measured median."""

    predicted_ms: float
    error: float
    table: str


class LatencyComparison:
    """Predicts latencies from a table and compares them with measured ones.

    Args:
        path: File of the table.
        runtimes: Names of the runtimes that are measured (``subnet_export.deployment.formats.RUNTIMES``).
        threads: Number of threads that they use.
        device: Where PyTorch runs; the others run on the CPU.

    Raises:
        UserError: The table cannot be read, its runtime is not measured, or it was measured with other settings.
    """

    def __init__(self, path: str, runtimes: Sequence[str], threads: int, device: torch.device) -> None:
        self._path, self._table = path, LatencyTable.load(path)
        settings = self._table.settings
        self._runtime = _runtime_name(settings.runtime, settings.precision)
        if self._runtime not in RUNTIMES:
            raise UserError(
                f"latency table {path} is for runtime {settings.runtime} in {settings.precision}, which benchmarks do "
                "not measure; leave it out"
            )
        if self._runtime not in runtimes:
            raise UserError(
                f"latency table {path} is for runtime {self._runtime}, which is not measured; add it to --runtimes"
            )
        name = device_name(device if settings.runtime == "torch" else torch.device("cpu"))
        check_settings(settings, replace(settings, device=name, threads=threads, batch=1))

    def predict_ms(self, network: LitePose) -> float:
        """Return the predicted latency of ``network``.

        Raises:
            UserError: The table lacks a block of the network, or is for another number of keypoints.
        """
        if network.num_keypoints != self._table.num_keypoints:
            raise UserError(
                f"latency table {self._path} is for num_keypoints={self._table.num_keypoints}, the network has "
                f"{network.num_keypoints}; give a table for this network"
            )
        return self._table.predict_ms(network.arch)

    def check_version(self, runtimes: Mapping[str, Runtime]) -> None:
        """Raise UserError if the table was measured with another version of its runtime, which is among these."""
        version = runtimes[self._runtime].library.split()[1]
        check_settings(self._table.settings, replace(self._table.settings, runtime_version=version))

    def __call__(self, network: LitePose, latencies: Mapping[str, Latency]) -> dict[str, LatencyPrediction]:
        """Return the prediction for ``network`` by name of the table's runtime, compared with the ``latencies``.

        Raises:
            UserError: See :meth:`predict_ms`.
        """
        predicted_ms = self.predict_ms(network)
        error = 100 * (predicted_ms / latencies[self._runtime].p50_ms - 1)
        return {self._runtime: LatencyPrediction(round(predicted_ms, 3), round(error, 2), self._path)}


def _runtime_name(runtime: str, precision: str) -> str:
    """Return the name that benchmarks use for a table's runtime; a PyTorch table is for the network as exported."""
    name = {"torch": "torch_export"}.get(runtime, runtime)
    return f"{name}_{precision}" if runtime == "openvino" or precision != "f32" else name
