"""The command line of latency tables; imports nothing slow, so that ``--help`` is quick."""

import argparse
from pathlib import Path

from supernet.cli.arguments import CommandLine, number, whole_number

PROGRAM = "python -m search.lut"


def parse() -> argparse.Namespace:
    """Parse the process's arguments; ``command`` is the name of one of them."""
    description = "Latency tables: how long each block of a search space takes on a device, and so any arch of it."
    parser = CommandLine(PROGRAM, description=description)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, purpose: str) -> CommandLine:
        added: CommandLine = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        return added

    build = command("build", "measure every block of a space here and write a table")
    _space(build)
    _settings(build)
    _effort(build, "block", 30, 14.0)
    _fitting(build)
    build.add_argument(
        "--output", metavar="FILE", type=Path, help="new table (default: RUNS/lut/ and a name built from the options)"
    )
    build.add_argument("--runs", metavar="FOLDER", default="runs", help="folder of all runs (default: %(default)s)")

    verify = command("verify", "compare the latencies of random networks, measured here, with a table's predictions")
    verify.add_argument("table", metavar="TABLE", type=Path, help="a latency table")
    verify.add_argument(
        "--networks", metavar="N", type=whole_number(3), default=30, help="networks (default: %(default)s)"
    )
    _effort(verify, "network", 20, 5.0)
    verify.add_argument(
        "--seed", metavar="N", type=whole_number(0), default=1, help="seed of the random networks (default: 1)"
    )
    verify.add_argument(
        "--output", metavar="FILE", type=Path, help="new file for the results (default: beside TABLE, .verified.json)"
    )

    show = command("show", "show a table and its predictions for archs")
    show.add_argument("table", metavar="TABLE", type=Path, help="a latency table")
    show.add_argument("--arch", metavar="FILE", nargs="+", default=[], help="LitePose JSON files to predict")

    merge = command("merge", "make a table from the measurements that a kit's script wrote on a device")
    merge.add_argument("measurements", metavar="FILE", type=Path, nargs="+", help="measurements.jsonl, or a zip of it")
    merge.add_argument("--output", metavar="FILE", type=Path, required=True, help="new table")

    kit = command("kit", "write a zip that measures on a device that has only a runtime and numpy")
    _space(kit)
    kit.add_argument("--runtime", default="onnxruntime", help="onnxruntime, ncnn, mnn or litert (default: %(default)s)")
    kit.add_argument(
        "--only-networks", action="store_true", help="leave out the blocks: measures enough to transfer a table"
    )
    kit.add_argument("--batch", metavar="N", type=whole_number(1), default=1, help="images a run (default: 1)")
    _fitting(kit)
    kit.add_argument("--output", metavar="FILE", type=Path, required=True, help="new zip")

    transfer = command("transfer", "move a table to a similar device on which 10 to 20 networks were measured")
    transfer.add_argument("table", metavar="TABLE", type=Path, help="the table to move")
    transfer.add_argument(
        "measurements",
        metavar="FILE",
        type=Path,
        help="measurements.jsonl of a kit with --only-networks, or a zip",
    )
    transfer.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        required=True,
        help="new table; its accuracy goes beside it, .transferred.json",
    )

    benchncnn = command("benchncnn", "turn the output of ncnn's benchmark, run on a kit for ncnn, into measurements")
    benchncnn.add_argument("kit", metavar="KIT", type=Path, help="the kit whose benchncnn.sh ran")
    benchncnn.add_argument("outputs", metavar="FILE", type=Path, nargs="+", help="what it printed, on one device")
    benchncnn.add_argument("--output", metavar="FILE", type=Path, required=True, help="new file of measurements")

    parser.describe(("build --space litepose --threads 2", "show table.json arch=runs/evolve/latest/arch.json"))
    measured = {"what is measured": ("--space", "--supernet", "--num-keypoints", "--resolutions", "--batch")}
    effort = {"effort": ("--rounds", "--minutes", "--networks", "--seed")}
    build.describe(
        ("--space litepose --runtime onnxruntime --threads 2", "space=nano runtime=torch minutes=5"),
        {**measured, "how": ("--runtime", "--precision", "--threads", "--device"), **effort},
    )
    verify.describe(("runs/lut/table.json", "runs/lut/table.json networks=50 seed=2"))
    show.describe(("runs/lut/table.json", "runs/lut/table.json --arch runs/evolve/latest/arch.json"))
    merge.describe(("measurements.jsonl --output table.json", "first.zip second.zip output=table.json"))
    kit.describe(
        ("--space litepose --output kit.zip", "space=nano runtime=ncnn output=kit.zip"),
        {**measured, "how": ("--runtime", "--only-networks"), **effort},
    )
    transfer.describe(("table.json measurements.jsonl --output other.json",))
    benchncnn.describe(("kit.zip output.txt --output measurements.jsonl",))
    options: argparse.Namespace = parser.parse_args()
    return options


def _space(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--supernet",
        metavar="PATH",
        help="supernet that sets space and keypoints (file, run folder or pretrained:photos)",
    )
    parser.add_argument(
        "--space", metavar="NAME", help="search space: name in conf/space, or a YAML file (default: nano)"
    )
    parser.add_argument(
        "--num-keypoints", metavar="N", type=whole_number(1), help="keypoints of the networks, 1 to 1000 (default: 17)"
    )
    parser.add_argument("--resolutions", metavar="LIST", help="comma-separated resolutions of the space (default: all)")


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime",
        default="onnxruntime",
        help="onnxruntime, openvino, ncnn, mnn, litert, executorch or torch (default: %(default)s)",
    )
    parser.add_argument("--precision", default="f32", help="f32, bf16 or, of torch, f16 (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=whole_number(1), help="CPU threads (default: all cores)")
    parser.add_argument("--device", default="cpu", help="of torch: auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--batch", metavar="N", type=whole_number(1), default=1, help="images a run (default: 1)")


def _effort(parser: argparse.ArgumentParser, subject: str, rounds: int, minutes: float) -> None:
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=whole_number(1),
        default=rounds,
        help=f"visits of each {subject}, spread over the whole run (default: %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        metavar="N",
        type=number(0, 100_000),
        default=minutes,
        help="time limit; the first round is always completed (default: %(default)s)",
    )


def _fitting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--networks",
        metavar="N",
        type=whole_number(0),
        default=40,
        help="random networks to fit the overhead to (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", metavar="N", type=whole_number(0), default=0, help="seed of these networks (default: 0)"
    )
