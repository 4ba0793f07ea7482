"""How a subnet is calibrated, measured and compared with its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subnet_export.browser.onnxruntime_web import page_runtime
from subnet_export.deployment.deployed_network import Input
from subnet_export.deployment.formats import CHECK_IMAGES, EXECUTORCH, MAX_INT8_LOSS, WEB, Format
from subnet_export.exporting.format_options import FormatOptions
from supernet.errors import UserError
from supernet.io.schema import check_numbers


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How a subnet is calibrated, measured and compared with its files.

    Attributes:
        calibration_images: Training images for the batch-norm statistics.
        batch_size: Images per forward pass.
        num_images: Measure on this many images from the start of the test set; all if None.
        input: Input of the graphs.
        check_images: Test images on which the AP of each file is compared with the network's; 0: only its outputs are.
        max_int8_loss: AP that quantisation may cost.
        decode: Whether graphs find the detections themselves.
        onnxruntime_web: Folder of the npm package that the page of format web gets a copy of.
        max_side: Longest side of the images that an ExecuTorch file takes, in px; if None, it takes images that are
            four times as long as wide.
    """

    calibration_images: int = 128
    batch_size: int = 32
    num_images: int | None = None
    input: Input = "uint8"
    check_images: int = CHECK_IMAGES
    max_int8_loss: float = MAX_INT8_LOSS
    decode: bool = False
    onnxruntime_web: Path | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        """Raise UserError for a value outside its range, or a folder without the package."""
        check_numbers(self, "calibration_images", "batch_size", "num_images", "max_side", least=1)
        check_numbers(self, "check_images", least=0)
        check_numbers(self, "max_int8_loss", least=0, most=1)
        if self.onnxruntime_web is not None:
            page_runtime(self.onnxruntime_web)

    def for_formats(self, formats: Sequence[Format]) -> FormatOptions:
        """Return how files in ``formats`` are written and compared.

        Raises:
            UserError: A setting is for a format that is not among them.
        """
        for option, chosen in (("onnxruntime_web", WEB), ("max_side", EXECUTORCH)):
            if getattr(self, option) is not None and chosen not in formats:
                raise UserError(f"{option} is for format {chosen.name}; add that or leave it out")
        page = page_runtime(self.onnxruntime_web) if WEB in formats else None
        return FormatOptions(
            formats, self.input, self.check_images, self.max_int8_loss, self.decode, page, self.max_side
        )
