"""ncnn's own benchmark instead of Python, for Android: a script that runs it on a kit, and its output as measurements.

``benchncnn`` prints the latency of a graph with a resolution of 0.01 ms, as the average of its runs. Where the
processor computes in 16-bit floats it does so, as ncnn does by default in apps.

Source: ncnn, benchmark/README.md (arguments and output).
"""

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from search.lut.devices.merge import ZIP_ERRORS, refuse_repetition
from supernet.errors import UserError
from supernet.io import files

SCRIPT = "benchncnn.sh"
LEAST_MS = 0.005
"""Half of the output's resolution, which stands for a printed 0.00."""
_FIGURES = re.compile(r"\bmin =\s*([\d.]+)\s+max =\s*([\d.]+)\s+avg =\s*([\d.]+)\s*$")
_FACT = re.compile(r"^(kit|device|system|precision|num_threads|powersave) =? ?(.+?)\s*$", re.MULTILINE)
_SCRIPT = """#!/bin/sh
# Measures the graphs of this kit with ncnn's benchmark, on a device without Python:
#     sh benchncnn.sh [THREADS [ROUNDS [POWERSAVE]]] > output.txt 2>&1
# The program benchncnn must lie beside this file. POWERSAVE: 0 all cores, 1 little ones, 2 big ones.
threads=${1:-4}
rounds=${2:-3}
powersave=${3:-2}
cd "$(dirname "$0")" || exit 1
echo "kit @KIT@"
echo "device $(getprop ro.product.model 2>/dev/null || uname -m)"
echo "system $(uname -srm)"
if grep -q asimdhp /proc/cpuinfo; then echo "precision f16"; else echo "precision f32"; fi
round=0
while [ "$round" -lt "$rounds" ]; do
    while read -r number file shapes; do
        echo "graph $round $number"
        ./benchncnn 20 "$threads" "$powersave" -1 0 "param=graphs/$file" "shape=$shapes" < /dev/null 2>&1
    done << 'GRAPHS'
@GRAPHS@
GRAPHS
    round=$((round + 1))
done
"""


def script(graphs: Mapping[str, Any]) -> str:
    """Return the script that measures the ``graphs`` of a kit's manifest."""
    lines = _lines(graphs)
    return _SCRIPT.replace("@KIT@", _digest(lines)).replace("@GRAPHS@", "\n".join(lines))


def measurements(kit: Path, outputs: Sequence[Path]) -> str:
    """Return what ``measure.py`` of the kit would have written, as text.

    Args:
        kit: The zip whose script ran.
        outputs: Files with what the script printed, of one device and number of threads.

    Raises:
        UserError: A file cannot be read, an output is not of this kit or repeats another, or outputs differ in device
            or settings.
    """
    manifest = _manifest(kit)
    graphs = manifest["graphs"]
    digest = _digest(_lines(graphs))
    settings: dict[str, Any] = {}
    visits: list[dict[str, Any]] = []
    earlier: dict[Path, Sequence[Any]] = {}
    for path in outputs:
        text = files.read_bytes(path, "output of benchncnn").decode("utf-8", "replace")
        facts = dict(_FACT.findall(text))
        if facts.get("kit") != digest:
            raise UserError(
                f"{path} is not the output of {SCRIPT} of {kit}; give what it printed, from the first line on"
            )
        own = _settings(path, facts)
        settings = settings or own
        if own != settings:
            raise UserError(f"{path} differs from {outputs[0]} in device or settings; give outputs of one device")
        next_visits = list(_visits(path, text, list(graphs)))
        refuse_repetition(path, next_visits, earlier)
        earlier[path] = next_visits
        first = 1 + max((visit["round"] for visit in visits), default=-1)
        visits += [{**visit, "round": visit["round"] + first} for visit in next_visits]
    lines = [{**manifest["header"], "settings": settings}, *visits]
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def _settings(path: Path, facts: Mapping[str, str]) -> dict[str, Any]:
    for name in ("device", "system", "precision", "num_threads", "powersave"):
        if name not in facts or (name == "num_threads" and not re.fullmatch(r"\d{1,6}", facts[name])):
            raise UserError(f"{path} has no line with {name}; give all that {SCRIPT} printed")
    return {
        "runtime": "ncnn",
        "runtime_version": "benchncnn",
        "device": facts["device"],
        "system": f"{facts['system']}, powersave {facts['powersave']}",
        "threads": int(facts["num_threads"]),
        "precision": facts["precision"],
        "batch": 1,
    }


def _visits(path: Path, text: str, subjects: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the visits in an output; a graph whose benchmark printed no figures is left out."""
    place: tuple[int, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.fullmatch(r"graph (\d{1,9}) (\d{1,9})\s*", line):
            if int(match[2]) >= len(subjects):
                raise UserError(
                    f"line {number} of {path} names graph {match[2]}, but the kit has {len(subjects)}; give the output "
                    "of this kit"
                )
            place = int(match[1]), subjects[int(match[2])]
        elif place is not None and (figures := _FIGURES.search(line)):
            try:
                average = float(figures[3])
            except ValueError:
                average = math.nan
            if not math.isfinite(average):
                raise UserError(f"line {number} of {path} has no number after avg =; restore the file")
            yield {"round": place[0], "subject": place[1], "ms": [max(LEAST_MS, average)]}
            place = None


def _manifest(kit: Path) -> dict[str, Any]:
    """Return the manifest of a kit for ncnn."""
    content = files.read_bytes(kit, "kit", files.LARGE)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            (info,) = (info for info in archive.infolist() if info.filename.endswith("/manifest.json"))
            if info.file_size > files.SMALL:
                raise ValueError("its manifest is too large")
            manifest: dict[str, Any] = json.loads(archive.read(info))
        if not isinstance(manifest["graphs"], dict) or not isinstance(manifest["header"], dict):
            raise ValueError("its manifest has no graphs or no header")
        if manifest["runtime"] != "ncnn" or manifest["batch"] != 1:
            raise ValueError(f"it is for {manifest['runtime']} and batch {manifest['batch']}")
        _lines(manifest["graphs"])
        json.dumps(manifest["header"], allow_nan=False)
    except (*ZIP_ERRORS, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{kit} is not a kit for ncnn and batch 1 ({error}); make it with --runtime ncnn") from error
    return manifest


def _lines(graphs: Mapping[str, Any]) -> list[str]:
    """Return number, file and shapes [width,height,channels] of every graph."""
    lines = []
    for number, graph in enumerate(graphs.values()):
        shapes = ",".join(f"[{width},{height},{channels}]" for _, channels, height, width in graph["inputs"])
        lines.append(f"{number} {graph['file']} {shapes}")
    return lines


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
