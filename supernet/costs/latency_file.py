"""The format of latency table files: fields, and checks of untrusted files (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from supernet.costs.latency_blocks import KINDS, SHAPES, Block, key_of, kind_of
from supernet.errors import UserError
from supernet.io.plain_values import integer
from supernet.io.schema import check_number
from supernet.pose.keypoints import MAX_KEYPOINTS

FORMAT, VERSION, UNIT = "litepose-supernet latency table", 1, "ms"
LONGEST_MS = 600_000.0
FIELDS = {
    "format": str,
    "version": int,
    "unit": str,
    "settings": dict,
    "num_keypoints": int,
    "space_digest": str,
    "space": dict,
    "overhead": dict,
    "networks": list,
    "blocks": list,
}
_TYPES = {str: "text", int: "a whole number", dict: "an object", list: "a list"}


@dataclass(frozen=True)
class Entry:
    """Milliseconds of one run: the median over rounds of their medians, and the 90th percentile of all ``runs``."""

    p50_ms: float
    p90_ms: float
    runs: int


def check_head(value: Any, name: str, version: int, fields: Mapping[str, type]) -> None:
    """Check the fields of a file, their types, and the file's format, version and unit.

    Raises:
        UserError: A field is wrong; the message names the first.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"it holds {type(value).__name__}; it must be an object with the fields {', '.join(fields)}")
    if value.get("format") != name:
        raise UserError(f"format is {value.get('format')!r}; it must be {name!r}")
    if value.get("version") != version:
        raise UserError(
            f"version is {value.get('version')!r}; this release reads {version}, so use the release that wrote the file"
        )
    if wrong := sorted(set(map(str, value)) ^ set(fields)):
        fault = "is missing" if wrong[0] in fields else "is unknown"
        raise UserError(f"the field {wrong[0]} {fault}; the fields are {', '.join(fields)}")
    for field, kind in fields.items():
        if not isinstance(value[field], kind) or isinstance(value[field], bool):
            raise UserError(f"{field} must be {_TYPES[kind]}, got {value[field]!r:.80}")
    if value["unit"] != UNIT:
        raise UserError(f"unit is {value['unit']!r}; latencies must be in {UNIT!r}, so convert them")
    check_number("num_keypoints", value["num_keypoints"], least=1, most=MAX_KEYPOINTS)


def check_form(value: Any) -> None:
    """Check the outer structure of a latency table; a UserError names the first wrong field."""
    check_head(value, FORMAT, VERSION, FIELDS)


def block_row(block: Block, entry: Entry) -> dict[str, Any]:
    """Return a block and its latencies as a row of the file."""
    return {"block": kind_of(block), **asdict(block), **asdict(entry)}


def read_blocks(rows: Sequence[Any], expected: Sequence[Block]) -> dict[Block, Entry]:
    """Read the rows of blocks, which must be the ``expected`` ones, each once.

    Raises:
        UserError: A row is malformed, repeated or of an unexpected block, or a block has no row.
    """
    entries: dict[Block, Entry] = {}
    known = set(expected)
    for i, row in enumerate(rows):
        place = f"blocks[{i}]"
        block = _read_block(place, row)
        if block in entries:
            raise UserError(f"{place} repeats the block {key_of(block)}; give each block one row")
        if block not in known:
            raise UserError(f"{place} is the block {key_of(block)}, which is not in the space; remove it")
        entries[block] = figures(place, row)
    if missing := [block for block in expected if block not in entries]:
        raise UserError(
            f"blocks lacks {len(missing)} of {len(expected)} blocks, first {key_of(missing[0])}; measure them"
        )
    return entries


def figures(place: str, row: Mapping[str, Any]) -> Entry:
    """Read the latencies and the number of runs of a row.

    Raises:
        UserError: A value is missing, or not a possible latency or number of runs.
    """
    for name in ("p50_ms", "p90_ms", "runs"):
        if name not in row:
            raise UserError(f"{place}.{name} is missing; measure it")
    for name in ("p50_ms", "p90_ms"):
        check_latency(f"{place}.{name}", row[name])
    if row["p90_ms"] < row["p50_ms"]:
        raise UserError(f"{place}.p90_ms is {row['p90_ms']}, below p50_ms, {row['p50_ms']}; measure again")
    check_number(f"{place}.runs", row["runs"], least=1, whole=True)
    return Entry(float(row["p50_ms"]), float(row["p90_ms"]), row["runs"])


def check_latency(place: str, value: Any) -> None:
    """Raise UserError unless ``value`` is a number above 0 and up to ``LONGEST_MS``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= LONGEST_MS:
        raise UserError(f"{place} must be above 0 and up to {LONGEST_MS:g} ms, got {value!r:.80}; measure again")


def _read_block(place: str, row: Any) -> Block:
    if not isinstance(row, Mapping) or not isinstance(row.get("block"), str) or row["block"] not in KINDS:
        kind = row.get("block") if isinstance(row, Mapping) else row
        raise UserError(f"{place}.block is {kind!r:.80}; it must be one of {', '.join(KINDS)}")
    shape = SHAPES[row["block"]]
    allowed = {"block", *shape, *Entry.__dataclass_fields__}
    if wrong := sorted(set(map(str, row)) ^ allowed):
        fault = "is missing" if wrong[0] in allowed else "is unknown"
        raise UserError(f"{place}.{wrong[0]} {fault}; a {row['block']} has {', '.join(sorted(allowed))}")
    return KINDS[row["block"]](*(integer(f"{place}.{name}", row[name]) for name in shape))
