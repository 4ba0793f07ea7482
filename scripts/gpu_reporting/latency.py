"""Section: a latency table of the blocks of the largest subnets, and how well it predicts one of them."""

import time
from dataclasses import replace
from typing import Any

import torch

from scripts.gpu_reporting.context import Context

SPACE, SIZE, NUM_KEYPOINTS = "litepose", 256, 17


def latency(context: Context) -> dict[str, Any]:
    """Build a latency table with ``search.lut``'s own code, on the device, in PyTorch."""
    from search.lut.build import Effort, build
    from search.lut.runtimes import open_runtime
    from search.lut.workloads import MeasurementPlan, fitting_networks
    from supernet.costs.latency_blocks import key_of
    from supernet.space import SearchSpace

    space_name = SPACE if context.is_gpu else context.effort.spaces[0]
    whole = SearchSpace.load(space_name)
    tables: dict[str, Any] = {}
    for precision in ("f32", "bf16") if context.is_gpu else ("f32",):
        resolution = SIZE if context.is_gpu else whole.resolutions[0]
        # Where only the depth varies, there are few distinct blocks, but several networks of them to fit on.
        space = replace(whole, resolutions=(resolution,)).restrict(["depth"])
        plan = MeasurementPlan(space, NUM_KEYPOINTS, fitting_networks(space, 4, 0))
        runtime = open_runtime("torch", precision, torch.get_num_threads(), 1, NUM_KEYPOINTS, context.device)
        output, began = context.work / f"latency_{precision}.json", time.perf_counter()
        minutes = max(0.1, context.seconds_left() / 60 / 2)
        table = build(runtime, plan, output, Effort(context.effort.lut_rounds, minutes), lambda *_: None)
        largest = space.largest()
        tables[precision] = {
            "resolution": resolution,
            "device": runtime.settings.device,
            "seconds": round(time.perf_counter() - began, 1),
            "block_p50_ms": {key_of(block): entry.p50_ms for block, entry in table.entries.items()},
            "largest_predicted_ms": round(table.predict_ms(largest), 4),
        }
        context.keep({"tables": tables})
    return {"space": space_name, "tables": tables}
