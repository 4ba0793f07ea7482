"""The model card: what an exported model is, how good, how fast, and how to use it, for people."""

from subnet_export.deployment.formats import FORMATS, LITEPOSE, PROJECT
from subnet_export.exported_model import ExportedModel, FormatRecord

INPUTS = {
    "uint8": "RGB images as `uint8` (B, H, W, 3), normalised inside",
    "float32": "RGB images as `float32` (B, 3, H, W), normalised outside (`input` in `model.json`)",
}


def model_card(model: ExportedModel) -> str:
    """Return the card of ``model`` in Markdown."""
    arch, keypoints = model.arch, model.keypoints
    parts = [
        f"# LitePose, {model.costs['macs'] / 1e6:,.0f} M multiply-adds at {arch.resolution} px",
        f"Finds the {keypoints.num} keypoints ({keypoints.name}) of every person in an image, bottom-up, in one pass "
        "of one network.",
        _use(model),
        _quality(model),
        _cost(model),
        _files(model),
        _origin(model),
    ]
    return "\n\n".join(parts) + "\n"


def _use(model: ExportedModel) -> str:
    side, divisor, num = model.arch.resolution, model.settings.size_divisor, model.keypoints.num
    return f"""## Use

```python
from subnet_export.model import load_model

model = load_model("this/folder")
people = model.predict(image)  # (H, W, 3) uint8 RGB -> people.poses (P, K, 3) as x, y, score; people.scores (P,)
```

`python -m subnet_export.predict --model this/folder photo.jpg` draws them, and
`python -m subnet_export.finetune --model this/folder` trains on.

Other programs run the network on images whose short side is {side} px and whose long side is a multiple of
{divisor} (any multiples of 16 are accepted), and group its maps: output `low` at 1/4 holds {num} heatmaps and then
as many tags, `high` at 1/2 holds {num} heatmaps.

Meant for finding the poses of people in images like those it was measured on. It identifies nobody, and its figures
say nothing about other images: measure it on your own before relying on it, and do not use it where a missed person
can be harmed."""


def _quality(model: ExportedModel) -> str:
    measured = model.measurement
    lines = [f"| {name} | {value:.4f} |" for name, value in measured.metrics.items()]
    heading = f"| {measured.split} split, {measured.num_images} images | |"
    return "\n".join([f"## Quality\n\nData set: {_dataset(model)}.\n", heading, "|---|---|", *lines])


def _dataset(model: ExportedModel) -> str:
    kind = model.dataset.get("kind")
    if kind == "synthetic":
        return f"built-in people, {model.dataset['width']} x {model.dataset['height']} px"
    return f"{kind}, annotations `{model.dataset.get(model.measurement.split, {}).get('annotations')}`"


def _cost(model: ExportedModel) -> str:
    side = model.arch.resolution
    parts = [
        f"## Cost\n\n{model.costs['params']:,} parameters; {model.costs['macs']:,} multiply-adds for one image of "
        f"{side} x {side} px.\n\nArch: {model.arch.describe()}."
    ]
    if not model.latencies:
        return (
            parts[0]
            + "\n\nLatency: not measured; `python -m subnet_export.benchmark --model this/folder --record` does."
        )
    rows = [
        f"| {each.library} | {each.precision} | {each.threads} | {each.p50_ms:.2f} | {each.p90_ms:.2f} |"
        for each in model.latencies
    ]
    first = model.latencies[0]
    table = ["| library | precision | threads | p50, ms | p90, ms |", "|---|---|---|---|---|", *rows]
    return f"{parts[0]}\n\nLatency of one such image on {first.processor}, {first.runs} runs:\n\n" + "\n".join(table)


def _files(model: ExportedModel) -> str:
    weights = f"| `{LITEPOSE.files[0]}` | {LITEPOSE.purpose} | | | |"
    rows = [weights, *(_file_row(name, record) for name, record in model.formats.items())]
    table = "\n".join(["| file | for | takes | difference of maps | AP |", "|---|---|---|---|---|", *rows])
    takes = [f"`{kind}`: {meaning}." for kind, meaning in INPUTS.items() if kind in _kinds(model)]
    notes = (
        "\n\nDifferences are root mean square, in standard deviations of the network's own maps."
        if model.formats
        else ""
    )
    extras = sorted({FORMATS[name].extra for name in model.formats} - {""})
    install = f" Libraries: `pip install '{PROJECT}[{','.join(extras)}]'`." if extras else ""
    return f"## Files\n\n{table}{notes}{install}" + "".join(f"\n\n{line}" for line in takes)


def _kinds(model: ExportedModel) -> set[str]:
    return {record.takes for record in model.formats.values()}


def _file_row(name: str, record: FormatRecord) -> str:
    chosen = FORMATS[name]
    files = " ".join(f"`{file}`" for file in record.files)
    against = f"{record.AP:.4f} ({record.AP - record.AP_network:+.4f}, {record.num_images} images)"
    purpose = chosen.purpose + (", first and last layers in float" if record.in_float else "")
    takes = f"`{record.takes}`" if record.takes in INPUTS else ""
    return f"| {files} | {purpose} | {takes} | {record.error:.1e} | {against} |"


def _origin(model: ExportedModel) -> str:
    calibration, origin = model.calibration, model.origin
    lines = [
        f"Cut from a supernet of the space `{origin.space}` (digest `{origin.space_digest}`).",
        f"Trained on its own for {origin.num_finetune_steps} steps after that."
        if origin.num_finetune_steps
        else "Not trained on its own after that.",
        f"Batch-norm statistics from {calibration.num_images} images of the {calibration.split} split at "
        f"{calibration.resolution} px, listed in `model.json`.",
    ]
    if origin.supernet_sha256:
        lines.insert(1, f"SHA-256 of the supernet's file: `{origin.supernet_sha256}`.")
    if calibration.AP_before is not None and calibration.AP_after is not None:
        lines.append(
            f"AP on the first {calibration.num_compared} images before calibration: {calibration.AP_before:.4f}; "
            f"after it: {calibration.AP_after:.4f}."
        )
    return "## Origin\n\n" + "\n".join(f"- {line}" for line in lines)
