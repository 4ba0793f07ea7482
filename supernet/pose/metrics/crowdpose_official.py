"""Calls CrowdPose's own evaluation package, ``crowdposetools``, where it is installed; it is on no package index.

Source: CrowdPose (arXiv 1812.00324) and its published evaluation. We differ in the three strata: ``summarize`` rounds
their AP to four digits and gives -1 to a stratum without people, so they are computed here from the same evaluation.
"""

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]

logger = logging.getLogger(__name__)


def evaluated(
    ground_truth: Mapping[str, Any], results: Sequence[Record], parts: Mapping[str, Sequence[Any]]
) -> dict[str, Any] | None:
    """Evaluate results on parts of the images with ``crowdposetools``.

    Args:
        ground_truth: In COCO's format with CrowdPose's keypoints, checked.
        results: In COCO's format, checked, at least one.
        parts: By name, the ids of the images of each part; none is empty.

    Returns:
        By name, what ``COCOeval.accumulate`` leaves for each part; None where ``crowdposetools`` is not installed, or,
        with a warning, where it does not run.
    """
    try:
        from crowdposetools.coco import COCO
        from crowdposetools.cocoeval import COCOeval
    except ModuleNotFoundError:
        return None
    except (ImportError, ValueError, AttributeError) as error:  # built or written for another numpy
        _warn(error)
        return None
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        truth_file, results_file = Path(folder) / "truth.json", Path(folder) / "results.json"
        truth_file.write_text(json.dumps(ground_truth), encoding="utf-8")
        results_file.write_text(json.dumps(list(results)), encoding="utf-8")
        evaluations = {}
        try:
            truth = COCO(str(truth_file))
            evaluation = COCOeval(truth, truth.loadRes(str(results_file)), "keypoints")
            for name, image_ids in parts.items():
                evaluation.params.imgIds = list(image_ids)
                evaluation.evaluate()
                evaluation.accumulate()
                evaluations[name] = evaluation.eval
        except (TypeError, AttributeError) as error:  # as published it uses what numpy 1.24 removed
            _warn(error)
            return None
    return evaluations


def _warn(error: Exception) -> None:
    logger.warning(
        "crowdposetools is installed but does not run here (%s); pycocotools computes the same figures instead", error
    )
