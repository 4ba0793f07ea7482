"""The card of a supernet that is shared: use, space, data and limits, in Markdown."""

from subnet_export.publish import front_matter
from supernet.checkpoints.lineage import saw_only_drawings
from supernet.checkpoints.supernet_file import TrainedSupernet


def supernet_card(trained: TrainedSupernet, name: str, license: str) -> str:
    """Return the card of a supernet.

    Args:
        trained: The supernet.
        name: What commands call it, ``hf://owner/name``.
        license: Licence of its weights.
    """
    space, keypoints = trained.supernet.space, trained.keypoints
    num_weights = sum(parameter.numel() for parameter in trained.supernet.parameters())
    largest, smallest = space.largest(), space.smallest()
    head = front_matter.of_supernet(license, trained.trained_on, space.name, keypoints.name)
    lines = [f"- {data.description}" for data in trained.trained_on]
    if saw_only_drawings(trained.trained_on):
        lines.append("\nIt has learned poses from drawn people only: train it on photographs before you use it there.")
    return f"""{head}
# LitePose supernet of the space {space.name}

One set of {num_weights:,} weights that {float(space.count()):.2g} pose networks share, from {smallest.resolution} to
{largest.resolution} px. Search it under your budget, then export the subnet; it finds the {keypoints.num} keypoints
({keypoints.name}) of every person in an image.

## Use

```bash
pip install 'litepose-supernet[hub,safetensors]'
python -m search.evolve supernet={name} constraint.macs=60%
python -m subnet_export --supernet {name}
python -m supernet.train init={name}
```

A supernet of images on disk comes without them: add `dataset=NAME dataset.root=FOLDER` to these commands, with images
like those it was trained on, for calibration and measurement. A subnet must be calibrated before it is used, which all
commands do.

## Trained on

{chr(10).join(lines)}

## Limits

The AP of its subnets is measured by your search, on your images. It does not identify people; do not use it where
people can be harmed if it misses them.

## Files

`supernet.safetensors`: weights, space and settings, with a SHA-256 that is verified on reading. Nothing in it is
executed.
"""
