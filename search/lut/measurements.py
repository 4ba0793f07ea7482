"""Makes a latency table of a file of measurements, which is not trusted, and fits the table's overhead."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from search.lut.measure import FORMAT, VERSION, JournalError, parse_journal, rounded
from search.lut.workloads import NO_OP, MeasurementPlan, Workload, network_key
from supernet.arch import Arch
from supernet.costs.latency_blocks import (
    Block,
    Bottleneck,
    Stem,
    blocks_of,
    blocks_of_space,
    key_of,
    num_border_elements,
)
from supernet.costs.latency_file import FIELDS, Entry, check_head, check_latency
from supernet.costs.latency_table import LatencyTable, MeasuredNetwork, MeasurementSettings, Overhead
from supernet.errors import UserError
from supernet.io import files
from supernet.io.plain_values import integer
from supernet.io.schema import from_mapping
from supernet.space import SearchSpace

HEADER_FIELDS = {name: kind for name, kind in FIELDS.items() if name not in ("overhead", "blocks")}
MOST_RUNS = 100_000
"""Limit on the runs of one visit."""
LARGEST_BYTES = 2**28
"""Limit on the size of a file of measurements; reading it takes thirty times as much memory."""
PULL = 0.05
"""Weight of a factor's distance from 1, as a relative error of one network, so that few networks cannot mislead."""
TYPICAL_ERROR = 0.03
"""Relative errors well above this count less than their square, so that one disturbed network does little harm."""


def read_measurements(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header and the visits of a file of measurements.

    Raises:
        UserError: The file cannot be read, or see :func:`parse_measurements`.
    """
    return parse_measurements(files.read_bytes(path, "measurements", LARGEST_BYTES), path)


def parse_measurements(content: bytes, path: Path | str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header and the visits in the ``content`` of a file of measurements; ``path`` is for messages.

    Raises:
        UserError: A line is malformed, or the file has another format, version or unit.
    """
    try:
        header, visits = parse_journal(content, path)
    except JournalError as error:
        raise UserError(str(error)) from error
    try:
        check_head(header, FORMAT, VERSION, HEADER_FIELDS)
    except UserError as error:
        raise UserError(f"measurements {path}: {error}") from error
    return header, visits


def table_from(header: Mapping[str, Any], visits: Sequence[Any]) -> LatencyTable:
    """Make a table of measurements, with the overhead fitted on their whole networks.

    Raises:
        UserError: Something is malformed, repeated, unknown or missing; the message names the field or workload.
    """
    space, num_keypoints = SearchSpace.from_dict(header["space"]), header["num_keypoints"]
    if space.digest() != header["space_digest"]:
        raise UserError(
            f"space_digest is {header['space_digest']!r}, but the space has {space.digest()}; measure again"
        )
    networks = networks_of(header["networks"], space)
    keys = {block: key_of(block) for block in blocks_of_space(space, num_keypoints)}
    subjects = {str(visit.get("subject")) for visit in visits if isinstance(visit, Mapping)}
    if subjects & {network_key(arch) for arch in networks} and subjects.isdisjoint(keys.values()):
        raise UserError(
            "only networks were measured, which move a table of another device (python -m search.lut transfer); a "
            "table needs a kit with blocks"
        )
    entries = entries_of(visits, MeasurementPlan(space, num_keypoints, networks).workloads())
    blocks = {block: entries[key] for block, key in keys.items()}
    measured = tuple(MeasuredNetwork(arch, entries[network_key(arch)]) for arch in networks)
    settings = from_mapping(MeasurementSettings, header["settings"], "settings")
    overhead = fit(blocks, entries[NO_OP].p50_ms, measured, num_keypoints, settings.batch)
    table = LatencyTable(settings, space, num_keypoints, overhead, measured, blocks)
    table.check_overhead()
    return table


def entries_of(
    visits: Iterable[Any], known: Mapping[str, Workload], passed_over: Collection[str] = ()
) -> dict[str, Entry]:
    """Summarise the visits of each ``known`` workload; those of workloads ``passed_over`` do not count.

    Raises:
        UserError: A visit is malformed, repeated or of an unknown workload, or a workload was never visited.
    """
    medians: dict[str, list[float]] = {name: [] for name in known}
    runs: dict[str, list[float]] = {name: [] for name in known}
    seen = set()
    for number, visit in enumerate(visits, start=2):  # the header is line 1
        place = f"line {number}"
        if not isinstance(visit, Mapping) or set(visit) != {"round", "subject", "ms"}:
            raise UserError(f"{place} must be an object with round, subject and ms; measure again")
        subject, milliseconds = visit["subject"], visit["ms"]
        integer(f"{place}: round", visit["round"])
        if isinstance(subject, str) and subject in passed_over:
            continue
        if not isinstance(subject, str) or subject not in known:
            raise UserError(f"{place}: subject is {subject!r:.80}, which is not in the space; remove it")
        if (visit["round"], subject) in seen:
            raise UserError(f"{place} repeats the subject {subject} in round {visit['round']}; remove one")
        seen.add((visit["round"], subject))
        if not isinstance(milliseconds, list) or not 0 < len(milliseconds) <= MOST_RUNS:
            raise UserError(f"{place}: ms must be a list of latencies, got {milliseconds!r:.80}")
        for i, value in enumerate(milliseconds):
            check_latency(f"{place}: ms[{i}] of {subject}", value)
        medians[subject].append(float(np.median(milliseconds)))
        runs[subject] += milliseconds
    if missing := [name for name in known if not medians[name]]:
        raise UserError(
            f"{len(missing)} of {len(known)} subjects were not measured, first {missing[0]}; complete the run"
        )
    return {name: _entry(medians[name], runs[name]) for name in known}


def _entry(medians: Sequence[float], runs: Sequence[float]) -> Entry:
    """Summarise the visits of one workload; p90 is at least p50, which is a median over rounds."""
    p50, p90 = float(np.median(medians)), float(np.percentile(runs, 90))
    return Entry(rounded(p50), rounded(max(p50, p90)), len(runs))


def networks_of(values: Sequence[Any], space: SearchSpace) -> tuple[Arch, ...]:
    """Read the networks of a header; a UserError names the first that is wrong."""
    places: dict[Arch, int] = {}
    for i, value in enumerate(values):
        arch = _network(i, value, space)
        if arch in places:
            raise UserError(f"networks[{i}] repeats networks[{places[arch]}]; remove one")
        places[arch] = i
    return tuple(places)


def _network(i: int, value: Any, space: SearchSpace) -> Arch:
    """Read network ``i`` of a header."""
    try:
        arch = Arch.from_dict(value)
        space.check(arch)
    except UserError as error:
        raise UserError(f"networks[{i}]: {error}") from error
    return arch


def fit(
    entries: Mapping[Block, Entry],
    call_ms: float,
    networks: Sequence[MeasuredNetwork],
    num_keypoints: int,
    batch: int = 1,
) -> Overhead:
    """Fit the fixed part and the factors to minimise the relative errors of ``networks``.

    Without networks, the prediction is the plain sum over blocks.

    Args:
        entries: Latencies of all blocks of the networks.
        call_ms: Latency of the no-op.
        networks: Whole networks with their latencies.
        num_keypoints: K.
        batch: Images per run.
    """
    sums = np.array([_sums(entries, call_ms, network, num_keypoints) for network in networks]).reshape(-1, 3)
    sums[:, 2] *= batch
    measured = np.array([network.entry.p50_ms for network in networks])

    def errors(values: np.ndarray) -> np.ndarray:
        fixed, *factors = values
        relative = (fixed + sums @ factors - measured) / measured
        return np.array([*relative, *(PULL * (np.array(factors) - (1, 1, 0)))])

    bounds = ([-np.inf, 0.05, 0.05, -np.inf], [np.inf, 20, 20, np.inf])
    result = least_squares(
        errors, [0.0, 1.0, 1.0, 0.0], bounds=bounds, loss="soft_l1", f_scale=TYPICAL_ERROR, x_scale=np.ones(4)
    )
    fixed, backbone, head, border = (round(float(value), 6) for value in result.x)
    return Overhead(call_ms, fixed, backbone, head, border)


def _sums(
    entries: Mapping[Block, Entry], call_ms: float, network: MeasuredNetwork, num_keypoints: int
) -> tuple[float, float, float]:
    """Return the sums over the blocks of backbone and head, ms without calls, and the millions of border elements."""
    totals = [0.0, 0.0, 0.0]
    for block in blocks_of(network.arch, num_keypoints):
        is_head = not isinstance(block, Stem | Bottleneck)
        totals[is_head] += max(0.0, entries[block].p50_ms - call_ms)
        totals[2] += num_border_elements(block) / 1e6
    return totals[0], totals[1], totals[2]
