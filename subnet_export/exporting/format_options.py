"""Which further formats a model is written in and how, and whether it can be."""

from collections.abc import Sequence
from dataclasses import dataclass

from subnet_export.browser.onnxruntime_web import PageRuntime
from subnet_export.decoding.graph import check_decodable
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.formats import (
    CHECK_IMAGES,
    EXECUTORCH,
    FORMATS,
    LITEPOSE,
    MAX_INT8_LOSS,
    SAFETENSORS,
    Format,
)
from subnet_export.exported_model import ExportedModel
from supernet.errors import UserError
from supernet.pose.inference import InferenceSettings


@dataclass(frozen=True)
class FormatOptions:
    """Formats to write, and how they are compared with the network.

    Attributes:
        formats: What to write; LitePose's own, which is always written elsewhere, is skipped.
        takes: Input of the graphs whose format allows either.
        num_check_images: Number of images, from the start of the test set, on which the AP of a file in float is
            compared with the network's; 0: only its outputs are compared. Quantised files are measured on as many
            images as the model was.
        max_int8_loss: AP that quantisation may cost.
        decode: The graphs decode; of every format in ``formats`` they can (:func:`check_decode`).
        page_runtime: Where the page of format web gets its runtime from; looked for if None.
        max_side: Longest side of the images that an ExecuTorch file takes, in px; if None, it takes images that are
            four times as long as wide.
    """

    formats: Sequence[Format]
    takes: Input = "uint8"
    num_check_images: int = CHECK_IMAGES
    max_int8_loss: float = MAX_INT8_LOSS
    decode: bool = False
    page_runtime: PageRuntime | None = None
    max_side: int | None = None


def formats_of(model: ExportedModel) -> tuple[tuple[Format, ...], Input]:
    """Return the formats that a model was exported in, and the input of its graphs ("uint8" if it has none)."""
    takes = {record.takes for name, record in model.formats.items() if FORMATS[name].takes is None} - {"state"}
    return tuple(FORMATS[name] for name in model.formats), "float32" if takes == {"float32"} else "uint8"


def decodes(model: ExportedModel) -> bool:
    """Whether the graphs that a model was exported in decode."""
    return any(record.gives == "detections" for record in model.formats.values())


def max_side_of(model: ExportedModel) -> int | None:
    """Return the longest side of the images that a model's ExecuTorch file takes, in px; None if it has none."""
    record = model.formats.get(EXECUTORCH.name)
    return None if record is None else record.max_side


def check_options(options: FormatOptions, settings: InferenceSettings, resolution: int) -> None:
    """Check that a network with these settings can be written with these options.

    Raises:
        UserError: A format cannot decode (:func:`check_decode`), or the files would not take square images.
    """
    if options.decode:
        check_decode(options.formats, settings)
    if options.max_side is not None:
        least = round(resolution * max(settings.scales))
        if options.max_side < least:
            raise UserError(f"--max-side is {options.max_side} px, images are at least {least} px long; raise it")


def first_without_decoding(formats: Sequence[Format]) -> Format | None:
    """Return the first of ``formats`` with a graph that cannot decode; None if there is none."""
    return next((item for item in formats if not item.decodes and item not in (LITEPOSE, SAFETENSORS)), None)


def check_decode(formats: Sequence[Format], settings: InferenceSettings) -> None:
    """Check that graphs of these formats can decode with these settings.

    Raises:
        UserError: One cannot, none is a graph, or the settings need several passes.
    """
    able = ", ".join(chosen.name for chosen in FORMATS.values() if chosen.decodes)
    if unable := first_without_decoding(formats):
        raise UserError(f"--decode is offered for the formats {able}, not for {unable.name}; leave out one of them")
    if not any(chosen.decodes for chosen in formats):
        raise UserError(f"--decode needs a format with a graph that can decode; add one of {able} to --format")
    check_decodable(settings)
