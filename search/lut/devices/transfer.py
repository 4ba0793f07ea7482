"""Moves a latency table to a similar device, from a few networks that were measured there.

The blocks keep their proportions within a kind; each kind gets a factor, and so does the part at the borders, and the
fixed part is fitted. The factors are not negative, and drawn towards a common one, so that 10 to 20 networks suffice.
How well this works is measured by leaving each network out: it is predicted from a table that was moved with the
others. A table that predicts them worse than its limit and the noise of their own measurements allow is refused.

Source: HELP (arXiv 2106.08630) also adapts latencies to a device by a few measured networks, with a learned predictor;
the model here is linear, as the table is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from search.lut.devices.merge import read_measurements_in
from search.lut.measure import rounded
from search.lut.measurements import TYPICAL_ERROR, entries_of, networks_of
from search.lut.verify import TableAccuracy, accuracy
from search.lut.workloads import NO_OP, MeasurementPlan, Workload, network_key
from supernet.arch import Arch
from supernet.costs.latency_blocks import KINDS, Block, blocks_of, kind_of, num_border_elements
from supernet.costs.latency_file import Entry
from supernet.costs.latency_table import LatencyTable, MeasuredNetwork, MeasurementSettings, Overhead
from supernet.errors import UserError
from supernet.io.schema import from_mapping
from supernet.space import SearchSpace

LEAST_NETWORKS = 10
MOST_ERROR = 5.0
"""Limit on the mean error of networks left out, percent, beside which their own noise is allowed."""
MOST_NOISE = 5.0
"""Limit on the noise of the networks' measured latencies, percent; above it the error says nothing."""
PULL = 0.1
"""Weight of a factor's distance from the common one, as a relative error of one network."""
FIXED_PULL = 0.5
"""The same of the fixed part, in median latencies."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Factors:
    """What the parts of a table are multiplied by.

    Attributes:
        kinds: Of blocks, by the name of their kind.
        border: Of the part at the borders.
        fixed_ms: The fixed part itself.
    """

    kinds: Mapping[str, float]
    border: float
    fixed_ms: float


@dataclass(frozen=True)
class Transfer:
    """A moved table and how well it predicts.

    Attributes:
        table: For the new device.
        factors: How it was made.
        left_out: Accuracy for networks that were left out.
        noise: Mean error of their measured latencies, percent, as their rounds differ.
        common_mape: Mean error of networks left out where all parts have one common factor, percent.
        predicted_ms: Of each network, left out.
    """

    table: LatencyTable
    factors: Factors
    left_out: TableAccuracy
    noise: float
    common_mape: float
    predicted_ms: tuple[float, ...]

    def to_dict(self, source: LatencyTable) -> dict[str, Any]:
        """Return plain values; ``source`` is the table that was moved."""
        return {
            "settings": asdict(self.table.settings),
            "source": asdict(source.settings),
            "factors": asdict(self.factors),
            "agreement": asdict(self.left_out),
            "noise": self.noise,
            "common_mape": self.common_mape,
            "networks": [
                {"predicted_ms": round(prediction, 5), **asdict(network.entry), "arch": network.arch.to_dict()}
                for prediction, network in zip(self.predicted_ms, self.table.networks, strict=True)
            ],
        }


def transfer(source: LatencyTable, path: Path) -> Transfer:
    """Move a table to the device of a file of measurements.

    Args:
        source: The table.
        path: What ``measure.py`` of a kit wrote there, at least of the whole networks; or a zip that holds it.

    Raises:
        UserError: The file cannot be read or is malformed, measured another space, number of keypoints or batch, too
            few networks, in one round or with too much noise; or the moved table predicts networks left out too badly.
    """
    header, visits = read_measurements_in(path)
    try:
        space, num_keypoints = SearchSpace.from_dict(header["space"]), header["num_keypoints"]
        settings = from_mapping(MeasurementSettings, header["settings"], "settings")
    except UserError as error:
        raise UserError(f"measurements {path}: {error}") from error
    if settings.batch != source.settings.batch:
        raise UserError(
            f"settings.batch of the table is {source.settings.batch}, that of {path} is {settings.batch}; measure with "
            "the same"
        )
    try:
        source.check(space, num_keypoints)
        archs = networks_of(header["networks"], space)
        entries, medians = _measured(visits, MeasurementPlan(space, num_keypoints, archs))
    except UserError as error:
        raise UserError(f"measurements {path}: {error}") from error
    if len(archs) < LEAST_NETWORKS:
        raise UserError(f"{path} has {len(archs)} networks; a transfer needs at least {LEAST_NETWORKS}, better 20")
    measured = tuple(MeasuredNetwork(arch, entries[network_key(arch)]) for arch in archs)
    return _checked(source, settings, measured, (entries[NO_OP].p50_ms, medians))


def _checked(
    source: LatencyTable,
    settings: MeasurementSettings,
    measured: tuple[MeasuredNetwork, ...],
    times: tuple[float, Sequence[Sequence[float]]],
) -> Transfer:
    """Move a table to networks ``measured`` with ``settings``, or raise UserError if it predicts them badly.

    Args:
        source: The table.
        settings: Of the measurements.
        measured: The networks.
        times: Latency of the no-op, and the median of each round of each network.
    """
    (call_ms, medians), fixed_ms = times, source.overhead.fixed_ms
    parts = np.array([_parts(source, network.arch) for network in measured])
    latencies = np.array([network.entry.p50_ms for network in measured])
    if (least := float(parts.sum(axis=1).min()) + fixed_ms) <= 0:
        raise UserError(f"the table predicts {least:.3g} ms for a network, which must be above 0; build it again")
    left_out, common = np.zeros_like(latencies), np.zeros_like(latencies)
    for i in range(len(latencies)):
        others = np.arange(len(latencies)) != i
        left_out[i] = predicted(fit(parts[others], latencies[others], fixed_ms), parts[i])
        common[i] = common_factor(parts[others], latencies[others], fixed_ms) * (parts[i].sum() + fixed_ms)
    result = accuracy(left_out.tolist(), medians)
    if result.repeat_noise is None:
        raise UserError("each network was measured in one round, so the noise is unknown; measure at least 2 rounds")
    noise = noise_of_medians(result.repeat_noise, min(map(len, medians)))
    if noise > MOST_NOISE:
        raise UserError(
            f"the measured latencies have a noise of {noise} %, more than {MOST_NOISE:g} %; measure more rounds, on "
            "a quiet device"
        )
    if result.mape > MOST_ERROR + noise:
        raise UserError(
            f"the moved table errs by {result.mape} % for networks left out, more than {MOST_ERROR:g} % plus their "
            f"noise of {noise} %; the devices are not similar enough, so measure the blocks there with a kit"
        )
    factors = fit(parts, latencies, fixed_ms)
    common_mape = round(float(100 * np.abs(common / latencies - 1).mean()), 2)
    table = replace(moved(source, settings, factors, call_ms), networks=measured)
    table.check_overhead()
    return Transfer(table, factors, result, noise, common_mape, tuple(left_out.tolist()))


def noise_of_medians(repeat_noise: float, num_rounds: int) -> float:
    """Return the mean absolute error, percent, of the median of rounds that differ from it by ``repeat_noise`` percent.

    For normally distributed noise the standard error of a median is that of a mean times the square root of pi / 2.
    """
    return round(repeat_noise * math.sqrt(math.pi / 2 / num_rounds), 2)


def _measured(visits: Sequence[Any], plan: MeasurementPlan) -> tuple[dict[str, Entry], list[list[float]]]:
    """Return the figures of the no-op and of whole networks, and the median of each round of each network."""
    workloads = plan.workloads()
    known: dict[str, Workload] = {NO_OP: workloads[NO_OP], **{network_key(arch): arch for arch in plan.networks}}
    entries = entries_of(visits, known, workloads.keys() - known.keys())
    medians: dict[str, list[float]] = {network_key(arch): [] for arch in plan.networks}
    for visit in visits:
        if visit["subject"] in medians:
            medians[visit["subject"]].append(float(np.median(visit["ms"])))
    return entries, list(medians.values())


def _parts(table: LatencyTable, arch: Arch) -> list[float]:
    """Return the parts of a predicted latency: blocks by kind, and the part at the borders; all but the fixed part."""
    parts = dict.fromkeys(KINDS, 0.0)
    border = 0.0
    for block in blocks_of(arch, table.num_keypoints):
        at_border = table.overhead.border_ms * num_border_elements(block) * table.settings.batch / 1e6
        parts[kind_of(block)] += table.share_ms(block) - at_border
        border += at_border
    return [*parts.values(), border]


def common_factor(parts: Floats, latencies: Floats, fixed_ms: float) -> float:
    """Return the median ratio of measured latencies to those that the table predicts; arguments as of ``fit``."""
    return float(np.median(latencies / (parts.sum(axis=1) + fixed_ms)))


def fit(parts: Floats, latencies: Floats, fixed_ms: float) -> Factors:
    """Fit the factors to minimise relative errors, which count less than their square where they are large.

    Args:
        parts: (N, P) as of ``_parts``.
        latencies: (N,) ms.
        fixed_ms: Fixed part of the table.
    """
    common, unit = common_factor(parts, latencies, fixed_ms), float(np.median(latencies))

    def errors(values: Floats) -> Floats:
        *factors, fixed = values
        predictions = common * (parts @ np.array(factors) + fixed_ms) + fixed * unit
        pulls = [PULL * (factor - 1) for factor in factors]
        return np.array([*(predictions / latencies - 1), *pulls, FIXED_PULL * fixed])

    num = parts.shape[1]
    bounds = ([0.0] * num + [-np.inf], [np.inf] * (num + 1))
    start = [1.0] * num + [0.0]
    result = least_squares(errors, start, bounds=bounds, loss="soft_l1", f_scale=TYPICAL_ERROR)
    *factors, fixed = (float(value) for value in result.x)
    scaled = [common * factor for factor in factors]
    return Factors(dict(zip(KINDS, scaled[:-1], strict=True)), scaled[-1], common * fixed_ms + fixed * unit)


def predicted(factors: Factors, parts: Floats) -> float:
    """Return the latency, ms, of a network with ``parts`` (P,)."""
    return float(np.array([*factors.kinds.values(), factors.border]) @ parts) + factors.fixed_ms


def moved(source: LatencyTable, settings: MeasurementSettings, factors: Factors, call_ms: float) -> LatencyTable:
    """Return ``source`` with its parts multiplied and the ``settings`` and call of another device."""
    old = source.overhead

    def entry(block: Block, measured: Entry) -> Entry:
        factor = factors.kinds[kind_of(block)]
        p50, p90 = (
            rounded(call_ms + factor * max(0.0, value - old.call_ms)) for value in (measured.p50_ms, measured.p90_ms)
        )
        return Entry(p50, p90, measured.runs)

    overhead = Overhead(
        call_ms,
        round(factors.fixed_ms, 6),
        old.backbone_factor,
        old.head_factor,
        round(factors.border * old.border_ms, 6),
    )
    entries = {block: entry(block, measured) for block, measured in source.entries.items()}
    return LatencyTable(settings, source.space, source.num_keypoints, overhead, (), entries)
