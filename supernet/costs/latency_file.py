"""The form of latency table files: their fields, and the checks that a stranger's file must pass (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from supernet.costs.latency_blocks import KINDS, SHAPES, Block, key_of, kind_of
from supernet.errors import UserError
from supernet.pose.keypoints import MOST_KEYPOINTS

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
    """Milliseconds of one run: the median over rounds of their medians, the 90th percentile of all ``runs``."""

    p50_ms: float
    p90_ms: float
    runs: int


def check_head(value: Any, name: str, version: int, fields: Mapping[str, type]) -> None:
    """Check the fields of a file and their types, and that it is a file of this format, version and unit.

    Raises:
        UserError: Naming the first field at fault.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"it holds {type(value).__name__}; it must be an object with the fields {', '.join(fields)}")
    if value.get("format") != name:
        raise UserError(f"format is {value.get('format')!r}; it must be {name!r}, so give such a file")
    if value.get("version") != version:
        raise UserError(
            f"version is {value.get('version')!r}; this program reads {version}, so use the program that wrote it"
        )
    if wrong := sorted(set(map(str, value)) ^ set(fields)):
        fault = "is missing" if wrong[0] in fields else "is unknown"
        raise UserError(f"the field {wrong[0]} {fault}; the fields are {', '.join(fields)}")
    for field, kind in fields.items():
        if not isinstance(value[field], kind) or isinstance(value[field], bool):
            raise UserError(f"{field} is {value[field]!r:.80}; it must be {_TYPES[kind]}")
    if value["unit"] != UNIT:
        raise UserError(f"unit is {value['unit']!r}; latencies must be in {UNIT!r}, so convert them")
    if not 1 <= value["num_keypoints"] <= MOST_KEYPOINTS:
        raise UserError(f"num_keypoints is {value['num_keypoints']}; it must be from 1 to {MOST_KEYPOINTS}")


def check_form(value: Any) -> None:
    """Check the outer form of a latency table; UserError names the first field at fault."""
    check_head(value, FORMAT, VERSION, FIELDS)


def block_row(block: Block, entry: Entry) -> dict[str, Any]:
    """Return a block and its figures as a row of the file."""
    return {"block": kind_of(block), **asdict(block), **asdict(entry)}


def read_blocks(rows: Sequence[Any], expected: Sequence[Block]) -> dict[Block, Entry]:
    """Read the rows of blocks, which must be those ``expected``, each once.

    Raises:
        UserError: A row that is malformed, repeated or of no block expected, or a block without a row.
    """
    found: dict[Block, Entry] = {}
    known = set(expected)
    for i, row in enumerate(rows):
        place = f"blocks[{i}]"
        block = _read_block(place, row)
        if block in found:
            raise UserError(f"{place} repeats the block {key_of(block)}; give each block one row")
        if block not in known:
            raise UserError(f"{place} is the block {key_of(block)}, which the space listed does not have; remove it")
        found[block] = figures(place, row)
    if missing := [block for block in expected if block not in found]:
        raise UserError(
            f"blocks lacks {len(missing)} of {len(expected)} blocks, first {key_of(missing[0])}; measure them"
        )
    return found


def figures(place: str, row: Mapping[str, Any]) -> Entry:
    """Read the figures of a row.

    Raises:
        UserError: One is missing or cannot be a latency or a number of runs.
    """
    for name in ("p50_ms", "p90_ms", "runs"):
        if name not in row:
            raise UserError(f"{place}.{name} is missing; measure it")
    for name in ("p50_ms", "p90_ms"):
        check_latency(f"{place}.{name}", row[name])
    if row["p90_ms"] < row["p50_ms"]:
        raise UserError(f"{place}.p90_ms is {row['p90_ms']}, below p50_ms, {row['p50_ms']}; measure again")
    if not isinstance(row["runs"], int) or isinstance(row["runs"], bool) or row["runs"] < 1:
        raise UserError(f"{place}.runs is {row['runs']!r}; it must be a whole number of at least 1")
    return Entry(float(row["p50_ms"]), float(row["p90_ms"]), row["runs"])


def check_latency(place: str, value: Any) -> None:
    """Raise UserError for what cannot be a latency in milliseconds: no number, NaN, 0, negative or endless."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= LONGEST_MS:
        raise UserError(f"{place} is {value!r}; a latency is above 0 and up to {LONGEST_MS:g} ms, so measure again")


def _read_block(place: str, row: Any) -> Block:
    if not isinstance(row, Mapping) or not isinstance(row.get("block"), str) or row["block"] not in KINDS:
        kind = row.get("block") if isinstance(row, Mapping) else row
        raise UserError(f"{place}.block is {kind!r:.80}; it must be one of {', '.join(KINDS)}")
    shape = SHAPES[row["block"]]
    allowed = {"block", *shape, *Entry.__dataclass_fields__}
    if wrong := sorted(set(map(str, row)) ^ allowed):
        fault = "is missing" if wrong[0] in allowed else "is unknown"
        raise UserError(f"{place}.{wrong[0]} {fault}; a {row['block']} has {', '.join(sorted(allowed))}")
    for name in shape:
        if not isinstance(row[name], int) or isinstance(row[name], bool):
            raise UserError(f"{place}.{name} is {row[name]!r}; it must be a whole number")
    return KINDS[row["block"]](*(row[name] for name in shape))
