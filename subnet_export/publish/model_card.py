"""The model card: use, quality, cost, files and origin of an exported model, in Markdown."""

from collections.abc import Mapping
from typing import Any

from subnet_export.deployment.formats import FORMATS, LITEPOSE
from subnet_export.exported_model import ExportedModel, FormatRecord
from subnet_export.publish import front_matter
from supernet.checkpoints.hub import is_hub
from supernet.checkpoints.lineage import annotations_of, saw_only_drawings
from supernet.evaluation.metrics_table import format_metric
from supernet.version import PROJECT

INPUTS = {
    "uint8": "RGB images as `uint8` (B, H, W, 3), normalised inside",
    "float32": "RGB images as `float32` (B, 3, H, W), normalised outside (`input` in `model.json`)",
}
PICTURE_FILE = "example.jpg"
PEAKS = {
    "published": "A heatmap peaks at the pixel that contains the keypoint.",
    "unbiased": "A heatmap is a Gaussian around the exact position of the keypoint, where pixel i covers i to i + 1.",
}


def model_card(model: ExportedModel, name: str = "this/folder", has_picture: bool = False) -> str:
    """Return the card of ``model`` in Markdown, with the YAML at its head that hubs read.

    Args:
        model: The model.
        name: What commands call it: its folder, or ``hf://owner/name``.
        has_picture: Whether ``example.jpg`` lies beside the card.
    """
    arch, keypoints = model.arch, model.keypoints
    title = f"LitePose, {model.costs['macs'] / 1e6:,.0f} M multiply-adds at {arch.resolution} px"
    parts = [
        f"{front_matter.of_model(model, title)}\n# {title}",
        *([f"![People that this model finds]({PICTURE_FILE})"] if has_picture else []),
        f"Finds the {keypoints.num} keypoints ({keypoints.name}) of every person in an image: bottom-up, with a single "
        "pass of one network.",
        _use(model, name),
        _trained_on(model),
        _quality(model, name),
        _cost(model, name),
        _files(model),
        _origin(model),
    ]
    return "\n\n".join(parts) + "\n"


def _use(model: ExportedModel, name: str) -> str:
    side, divisor, num = model.arch.resolution, model.settings.size_divisor, model.keypoints.num
    limits = "trained on. It does not identify people. Its AP\nwas not measured"
    if model.measurement.num_images:
        limits = "measured on. It does not identify people. The\nfigures below do not apply to other images"
    return f"""## Use

```python
from subnet_export.model import load_model
from supernet.pose.data.image_decoding import read_image

model = load_model("{name}")
image = read_image("photo.jpg", upright=True)  # (H, W, 3) uint8 RGB
people = model.predict(image)  # people.poses (P, K, 3) as x, y, score; people.scores (P,)
print(people.scores)
```

```bash
python -m subnet_export.predict --model {name} photo.jpg  # draws them
python -m subnet_export.finetune --model {name}           # trains the model further
```

Without this project: `python pose.py photo.jpg`, in this folder, needs only numpy, opencv-python-headless and one
library, and finds the same people; `Pose("this/folder")(image)` does so in a program. It runs `model.onnx` (format
`onnx`, onnxruntime), `model.ncnn.param` (`ncnn`), `model.tflite` (`litert`, ai-edge-litert), `model.mnn` (`mnn`, MNN)
or `model_int8.tflite` (`litert_int8`, ai-edge-litert), and is also the example to follow in other languages.

Other programs run the network on images with a short side of {side} px and a long side that is a multiple of
{divisor} (any multiples of 16 are accepted) and group its maps. Output `low`, at 1/4 of the input size, holds {num}
heatmaps followed by {num} tag maps; output `high`, at 1/2, holds {num} heatmaps. {PEAKS[model.objective.placement]}
What decoding takes is under `decoder` in `model.json`, and in the metadata of the ONNX file.

Intended for finding the poses of people in images like those it was {limits}: \
measure the model on your own images before you rely on it, and do not use
it where people can be harmed if it misses them."""


def _trained_on(model: ExportedModel) -> str:
    lines = [f"- {data.description}" for data in model.origin.trained_on]
    if saw_only_drawings(model.origin.trained_on):
        lines.append(
            "\nThis model has learned poses from drawn people only. On photographs it finds people where there are "
            "none and misses others: fine-tune it on photographs before you use it there."
        )
    return "\n".join(["## Trained on\n", *lines])


def _quality(model: ExportedModel, name: str) -> str:
    measurement = model.measurement
    if not measurement.num_images:
        return (
            f"## Quality\n\nAP was not measured; data set: {_own_images(model)}. To measure it, run `python -m "
            f"supernet.evaluate weights={name} dataset=NAME dataset.root=FOLDER`."
        )
    lines = [f"| {name} | {format_metric(value, 4)} |" for name, value in measurement.metrics.items()]
    heading = f"| measured on {measurement.num_images} images of the {measurement.split} split | |"
    return "\n".join([f"## Quality\n\nData set: {_own_images(model)}.\n", heading, "|---|---|", *lines])


def _own_images(model: ExportedModel) -> str:
    return describe_images(model.dataset, model.measurement.split)


def describe_images(dataset: Mapping[str, Any], split: str) -> str:
    """Return what the images of a split are, in words."""
    if dataset.get("kind") == "synthetic":
        return f"built-in people, {dataset['width']} x {dataset['height']} px"
    return f"{front_matter.name_on_disk(dataset)}, annotations `{annotations_of(dataset, split)}`"


def _cost(model: ExportedModel, name: str) -> str:
    side = model.arch.resolution
    costs = (
        f"## Cost\n\n{model.costs['params']:,} parameters; {model.costs['macs']:,} multiply-adds for one image of "
        f"{side} x {side} px.\n\nArch: {model.arch.describe()}."
    )
    if not model.latencies:
        record = "" if is_hub(name) else " --record"
        command = f"python -m subnet_export.benchmark --model {name}{record}"
        return f"{costs}\n\nLatency: not measured; to measure{' and record' * bool(record)} it, run `{command}`."
    rows = [
        f"| {latency.library} | {latency.processor} | {latency.precision} | {latency.threads} | {latency.p50_ms:.2f} | "
        f"{latency.p90_ms:.2f} |"
        for latency in model.latencies
    ]
    table = ["| library | processor | precision | threads | p50, ms | p90, ms |", "|---|---|---|---|---|---|", *rows]
    return f"{costs}\n\nLatency of one such image, {model.latencies[0].runs} runs:\n\n" + "\n".join(table)


def _files(model: ExportedModel) -> str:
    weights = f"| `{LITEPOSE.files[0]}` | {LITEPOSE.purpose} | | | |"
    rows = [weights, *(_file_row(name, record) for name, record in model.formats.items())]
    table = "\n".join(["| file | for | input | difference of maps | AP |", "|---|---|---|---|---|", *rows])
    notes = "\n\nDifferences are root mean square, in standard deviations of the network's own maps."
    if any(record.gives == "detections" for record in model.formats.values()):
        notes += (
            f"\n\nGraphs that decode have one output, `detections` (B, {model.keypoints.num}, "
            f"{model.settings.max_people}, 4): x, y in pixels of the input, value and tag of the best maxima of each "
            "keypoint, by falling value, all 0 where there is none. They are matched by their tags (`pose.py`). What a "
            "person lacks is filled in from these detections instead of the maps, which is why AP differs from "
            "that of the network."
        )
    extras = sorted({FORMATS[name].extra for name in model.formats} - {""})
    install = f" To install the libraries: `pip install '{PROJECT}[{','.join(extras)}]'`." if extras else ""
    takes = {record.takes for record in model.formats.values()}
    inputs = [f"`{kind}`: {meaning}." for kind, meaning in INPUTS.items() if kind in takes]
    return "\n\n".join([f"## Files\n\n{table}{notes if model.formats else ''}{install}", *inputs])


def describe_difference(record: FormatRecord) -> str:
    """Return the difference of AP in words, with its sign, and the images."""
    difference = record.ap_difference()
    if record.AP_network is None:
        return "not compared"
    words = f"shows nothing: the network has {record.AP_network:.4f}" if difference is None else f"{difference:+.4f}"
    return f"{words} on {record.num_images} images{f' of {record.images}' if record.images else ''}"


def _file_row(name: str, record: FormatRecord) -> str:
    files = " ".join(f"`{file}`" for file in record.files)
    purpose = f"{FORMATS[name].purpose} ({FORMATS[name].runs_on})"
    if record.in_float:
        purpose += ", first and last layers in float"
    if record.largest_value is not None:
        purpose += f", values up to {record.largest_value:,.0f} on the calibration images (16 bits hold 65,504)"
    purpose += ", decodes in the graph" if record.gives == "detections" else ""
    purpose += f", for images of at most {record.max_side:,} px on each side" if record.max_side else ""
    takes = f"`{record.takes}`" if record.takes in INPUTS else ""
    if record.error is None:
        return f"| {files} | {purpose} | {takes} | not run here | not measured: only its description was checked |"
    compared = describe_difference(record)
    ap = compared if record.AP is None else f"{record.AP:.4f} ({compared})"
    return f"| {files} | {purpose} | {takes} | {record.error:.1e} | {ap} |"


def _origin(model: ExportedModel) -> str:
    calibration, origin = model.calibration, model.origin
    is_extracted = bool(origin.space_digest)
    which = f" ({calibration.images})" if calibration.images else ""
    statistics = (
        f"Batch-norm statistics from {calibration.num_images} images of the {calibration.split} split{which} at "
        f"{calibration.resolution} px; `model.json` lists them."
    )
    lines = [
        f"Extracted from a supernet of the space `{origin.space}` (digest `{origin.space_digest}`)."
        if is_extracted
        else "Converted from a checkpoint of the published LitePose code.",
        f"Then fine-tuned for {origin.num_finetune_steps} steps." if origin.num_finetune_steps else "Not fine-tuned.",
        statistics if calibration.num_images else "Batch-norm statistics are those of the checkpoint.",
    ]
    if origin.supernet_sha256:
        lines.insert(1, f"SHA-256 of the supernet's file: `{origin.supernet_sha256}`.")
    if calibration.AP_before is not None and calibration.AP_after is not None:
        lines.append(
            f"AP on the first {calibration.num_compared} images before calibration: {calibration.AP_before:.4f}; "
            f"after it: {calibration.AP_after:.4f}."
        )
    return "## Origin\n\n" + "\n".join(f"- {line}" for line in lines)
