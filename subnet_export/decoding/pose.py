"""Finds people in images with the network in this folder: a program of its own that comes with every exported model.

It needs Python 3.10, numpy, opencv-python-headless and the library of one file here (onnxruntime for model.onnx,
ncnn for model.ncnn.param, ai-edge-litert for model.tflite), nothing of the project that trained the network.
``python pose.py photo.jpg`` prints the people of each image as a line of JSON; ``--draw FOLDER`` also draws them. In a
program: ``poses, scores = Pose("this/folder")(image)`` for an image (H, W, 3) uint8, RGB.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Description = dict[str, Any]


class OnnxRuntime:
    """``model.onnx`` in ONNX Runtime. For another library, enter a class with this interface in ``RUNTIMES``.

    Attributes:
        description: Of the decoding; None if the file holds none, and that in model.json is used.
        takes: "uint8" for images (1, H, W, 3), or "float32" for images (1, 3, H, W) normalised.
    """

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        text = self._session.get_modelmeta().custom_metadata_map.get("litepose")
        self.description: Description | None = json.loads(text) if text else None
        self.takes = "uint8" if "uint8" in self._session.get_inputs()[0].type else "float32"

    def run(self, images: Array) -> dict[str, Array]:
        """Return the outputs by name, ``low`` and ``high`` or ``detections``: see ``outputs`` in the description."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {"images": images}), strict=True))


class NcnnRuntime:
    """``model.ncnn.param`` and ``model.ncnn.bin`` in ncnn, in 32-bit floats as they were checked.

    On Arm, ncnn is faster with ``use_fp16_storage`` and ``use_fp16_arithmetic``; measure what they cost.
    """

    description, takes = None, "float32"

    def __init__(self, path: Path, threads: int) -> None:
        import ncnn

        self._matrix, self._net = ncnn.Mat, ncnn.Net()
        options = self._net.opt
        options.num_threads = threads or os.cpu_count() or 1
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        if self._net.load_param(str(path)) or self._net.load_model(str(path.with_suffix(".bin"))):
            raise ValueError(f"{path} and its .bin file are not a network")

    def run(self, images: Array) -> dict[str, Array]:
        """Return the outputs by name."""
        extractor = self._net.create_extractor()
        extractor.input("in0", self._matrix(images[0]))
        return {name: np.array(extractor.extract(blob)[1])[None] for name, blob in (("low", "out0"), ("high", "out1"))}


class LiteRtRuntime:
    """``model.tflite`` in LiteRT."""

    description = None

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads or os.cpu_count() or 1)
        runner = self._interpreter.get_signature_runner()
        source, self._outputs = runner.get_input_details()["images"], runner.get_output_details()
        self._input, self._shape = source["index"], (0,)
        self.takes = "uint8" if source["dtype"] == np.uint8 else "float32"

    def run(self, images: Array) -> dict[str, Array]:
        """Return the outputs by name."""
        if images.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, images.shape)
            self._interpreter.allocate_tensors()
            self._shape = images.shape
        self._interpreter.set_tensor(self._input, images)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(value["index"]) for name, value in self._outputs.items()}


RUNTIMES: dict[str, Callable[[Path, int], Any]] = {
    "model.onnx": OnnxRuntime,
    "model.ncnn.param": NcnnRuntime,
    "model.tflite": LiteRtRuntime,
}
"""By the file that they open. Of a folder, the first that is there is used."""


class Pose:
    """The network in ``path``, the folder of an exported model or the file in it to run; 0 threads are all cores."""

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        names = list(RUNTIMES) if Path(path).is_dir() else [Path(path).name]
        name = next((name for name in names if name in RUNTIMES and (folder / name).is_file()), None)
        if name is None:
            raise FileNotFoundError(f"{path} holds none of {', '.join(RUNTIMES)}; export it in one of these formats")
        self.runtime = RUNTIMES[name](folder / name, threads)
        own: Description | None = self.runtime.description
        self.description = own or json.loads((folder / "model.json").read_text("utf-8"))["decoder"]
        self.settings, self.input = self.description["inference"], self.description["input"]
        if self.settings["scales"] != [1.0]:
            raise ValueError(f"pose.py runs images at one scale, and this model needs {self.settings['scales']}")

    def __call__(self, image: Array, min_score: float = 0.0) -> tuple[Array, Array]:
        """Find the people in an image.

        Args:
            image: (H, W, 3) uint8, RGB.
            min_score: People with a lower score are left out.

        Returns:
            Poses (P, K, 3): x, y in pixels of the image and a value, all 0 for a keypoint not found; scores (P,).
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image must be (H, W, 3) uint8, RGB, not {image.shape} {image.dtype}")
        resized, scale, offset = self._resized(image)
        size = (resized.shape[1], resized.shape[0])
        copies = [resized, resized[:, ::-1]] if self.settings["flip_test"] else [resized]
        outputs = [self.runtime.run(self._normalised(copy[None])) for copy in copies]
        if "detections" in outputs[0]:
            entries = outputs[0]["detections"][0]
            poses, scores = group(entries, self.description, lambda *lack: from_list(entries, *lack))
        else:
            heat, tags = self._maps(outputs, size)
            found = [detections(*maps, self.settings) for maps in zip(heat, tags, strict=True)]
            poses, scores = group(found, self.description, lambda *lack: from_maps(heat, tags, self.settings, *lack))
        seen = poses[..., 2] > 0
        poses[seen, :2] = poses[seen, :2].astype(np.float64) * scale + offset
        return poses[scores >= min_score], scores[scores >= min_score]

    def _resized(self, image: Array) -> tuple[Array, float, tuple[float, float]]:
        """Return the input (H, W, 3), black outside the image, and: image point = input point * scale + offset."""
        height, width = image.shape[:2]
        side, multiple = self.input["short_side"], self.input["long_side_multiple_of"]
        short, long = min(width, height), max(width, height)
        resized = side if short == long else max(-(-(long * side // short) // multiple) * multiple, side)
        size, scale = (side, resized) if width < height else (resized, side), short / side
        offset = ((width + 1) // 2 - size[0] * scale / 2, (height + 1) // 2 - size[1] * scale / 2)
        centre = 0.5 * scale - 0.5  # OpenCV counts from the centres of pixels
        matrix = np.array([[scale, 0.0, offset[0] + centre], [0.0, scale, offset[1] + centre]])
        warped = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        return np.asarray(warped), scale, offset

    def _normalised(self, images: Array) -> Array:
        """Images (1, H, W, 3) uint8 as the network takes them."""
        if self.runtime.takes == "float32":
            mean, std = (np.array(self.input[name], np.float32) for name in ("mean", "std"))
            images = ((images - mean) / std).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(images)

    def _maps(self, outputs: list[dict[str, Array]], size: tuple[int, int]) -> tuple[Array, Array]:
        """Heatmaps (K, H, W), averaged, and tags (K, H, W, T) of an image and its mirror image, at the input's size."""
        mirrored = list(range(len(self.description["keypoints"]["names"])))
        for left, right in self.description["keypoints"]["flip_pairs"]:
            mirrored[left], mirrored[right] = right, left
        heatmaps, tags = [], []
        for number, output in enumerate(outputs):
            low, high = output["low"][0], output["high"][0]
            half, num = (high.shape[2], high.shape[1]), len(high)
            heat, tag = resize((resize(low[:num], half) + high) / 2, size), resize(resize(low[num:], half), size)
            heatmaps.append(heat[mirrored, :, ::-1] if number else heat)
            tags.append(tag[mirrored, :, ::-1] if number else tag)
        average = (heatmaps[0] + heatmaps[1]) / 2 if len(heatmaps) > 1 else heatmaps[0]
        return average, np.stack(tags, axis=-1)


def group(entries: Sequence[Array], description: Description, fill_in: Callable[..., Array]) -> tuple[Array, Array]:
    """Match detections by their tags, keypoint by keypoint, into people (arXiv 1611.05424, section 3.3).

    Args:
        entries: K arrays (M, 3 + T) of x, y, value, tags, by falling value.
        description: See model.json.
        fill_in: Of a keypoint and the mean tags (N, T) of those who lack it: what to add (N, 3), 0 for nothing.
    """
    settings = description["inference"]
    most, threshold = settings["max_people"], settings["tag_threshold"]
    poses = np.zeros((sum(map(len, entries)), len(entries), 3), np.float32)
    sums, counts, num = np.zeros((len(poses), entries[0].shape[1] - 3)), np.zeros((len(poses), 1)), 0
    for keypoint in description["keypoint_order"]:
        found = entries[keypoint][entries[keypoint][:, 2] > settings["detection_threshold"]][:most]
        tags, joined, old = found[:, 3:].astype(np.float64), np.full(len(found), -1), min(num, most)
        if len(found) and old:
            distance = np.sqrt(np.square(tags[:, None] - sums[:old] / counts[:old]).sum(axis=2))
            cost, alone = np.rint(distance) * 100 - found[:, 2:3], len(found)
            price = np.rint(threshold) * 100
            if settings["matching"] == "thresholded":
                cost[distance >= threshold] = 1e6
            else:
                alone, price = max(0, len(found) - old), 1e6
            columns = assign(np.hstack([cost, np.full((len(found), alone), price)]))
            is_near = (columns < old) & (distance[range(len(found)), np.minimum(columns, old - 1)] < threshold)
            joined[is_near] = columns[is_near]
        joined[joined < 0] = num + np.arange((joined < 0).sum())
        num = max(num, *joined + 1) if len(found) else num
        poses[joined, keypoint] = found[:, :3]
        sums[joined] += tags
        counts[joined] += 1
    poses, means = poses[:num], (sums[:num] / counts[:num]).astype(np.float32)
    scores = poses[..., 2].mean(axis=1)
    for keypoint in range(len(entries) if settings["refine"] and num else 0):
        lacking = np.flatnonzero(poses[:, keypoint, 2] == 0)
        poses[lacking, keypoint] = fill_in(keypoint, means[lacking])
    return poses, scores


def assign(cost: Array) -> Array:
    """Return the column of each row (N,) at the least total cost (N, M), N <= M, by shortest augmenting paths.

    Source: Crouse, 2016 (doi 10.1109/TAES.2016.140952). Of equal costs it chooses as SciPy's solver does.
    """
    num_rows, num_columns = cost.shape
    u, v = np.zeros(num_rows), np.zeros(num_columns)
    column_of, row_of = np.full(num_rows, -1), np.full(num_columns, -1)
    for start in range(num_rows):
        left, length, via = np.arange(num_columns)[::-1].copy(), np.full(num_columns, np.inf), np.full(num_columns, -1)
        row, total, rows, columns = start, 0.0, [], []
        while row >= 0:
            rows.append(row)
            reached = total + cost[row, left] - u[row] - v[left]
            shorter = left[reached < length[left]]
            length[shorter], via[shorter] = reached[reached < length[left]], row
            total = length[left].min()
            nearest = np.flatnonzero(length[left] == total)
            free = nearest[row_of[left[nearest]] < 0]
            place = free[-1] if len(free) else nearest[0]  # the last free one, else the first
            columns.append(left[place])
            row = row_of[left[place]]
            left[place] = left[-1]
            left = left[:-1]
        u[start] += total
        for other in rows[1:]:
            u[other] += total - length[column_of[other]]
        v[columns] -= total - length[columns]
        column, row = columns[-1], -1
        while row != start:  # along the path, each row takes the next column
            row = via[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
    return column_of


def from_list(entries: Array, keypoint: int, means: Array) -> Array:
    """Return the detections (N, 3), of (K, M, 4), whose value and distance to a mean tag (N, 1) are best together."""
    found = entries[keypoint][entries[keypoint][:, 2] > 0]
    if not len(found):
        return np.zeros((len(means), 3), np.float32)
    return np.asarray(found[(found[:, 2] - np.rint(np.abs(found[:, 3] - means))).argmax(axis=1), :3])


def from_maps(heat: Array, tags: Array, settings: Description, keypoint: int, means: Array) -> Array:
    """Return the pixels (N, 3) of a keypoint's map whose value and distance to a mean tag (N, T) are best together."""
    heat, tags = heat[keypoint], tags[keypoint]
    best = []
    for mean in means:
        distance = np.abs(tags[..., 0] - mean[0]) if len(mean) == 1 else np.sqrt(np.square(tags - mean).sum(axis=-1))
        best.append(int((heat - np.rint(distance)).argmax()))
    y, x = np.divmod(np.array(best, int), heat.shape[1])
    pixels = positions(heat, x, y, settings)
    return np.where(pixels[:, 2:] > 0, pixels, np.float32(0))


def detections(heat: Array, tags: Array, settings: Description) -> Array:
    """Return the best maxima of a heatmap (H, W), by falling value: x, y, value, tags, (M, 3 + T)."""
    side = settings["nms_kernel"]
    is_peak = (heat > settings["detection_threshold"]) & (heat == cv2.dilate(heat, np.ones((side, side), np.uint8)))
    y, x = np.nonzero(is_peak)
    order = np.argsort(-heat[y, x], kind="stable")
    kept: list[tuple[float, int, int]] = []
    for row, column in zip(y[order].tolist(), x[order].tolist(), strict=True):
        value = float(heat[row, column])  # of equal pixels beside each other the first counts
        if not any(v == value and max(abs(r - row), abs(c - column)) <= side // 2 for v, r, c in kept):
            kept.append((value, row, column))
        if len(kept) == settings["max_people"]:
            break
    rows, columns = (np.array([peak[index] for peak in kept], int) for index in (1, 2))
    return np.concatenate([positions(heat, columns, rows, settings), tags[rows, columns]], axis=1)


def positions(heat: Array, x: Array, y: Array, settings: Description) -> Array:
    """Return x, y and value (N, 3) of pixels of a heatmap (H, W), moved to where it peaks within them."""
    height, width = heat.shape
    result = np.stack([x + 0.5, y + 0.5, heat[y, x]], axis=1).astype(np.float32)
    if settings["adjust"] and settings["decoding"] == "published":  # a quarter pixel to the higher neighbour
        right = heat[y, np.minimum(x + 1, width - 1)] > heat[y, np.maximum(x - 1, 0)]
        down = heat[np.minimum(y + 1, height - 1), x] > heat[np.maximum(y - 1, 0), x]
        result[:, :2] += np.where(np.stack([right, down], axis=1), np.float32(0.25), np.float32(-0.25))
    elif settings["adjust"]:  # to the top of a Gaussian that is fitted to 5 x 5 pixels
        middle_x, middle_y = np.clip(x, 2, max(2, width - 3)), np.clip(y, 2, max(2, height - 3))
        dy, dx = (offsets.ravel() for offsets in np.mgrid[-2:3, -2:3])
        rows, columns = np.minimum(middle_y[:, None] + dy, height - 1), np.minimum(middle_x[:, None] + dx, width - 1)
        terms = np.stack([dx / 50, dy / 50, (dx**2 - 2) / 35, (dy**2 - 2) / 35, dx * dy / 100], axis=1)
        peaks = np.where(heat[y, x] > 0, heat[y, x], 1).astype(np.float64)
        logs = np.log(np.maximum(heat[rows, columns] / peaks[:, None], 0.01))
        slope_x, slope_y, xx, yy, xy = (logs @ terms).T  # the quadratic of least squares
        determinant = xx * yy - xy**2
        has_top = (xx < -1e-6) & (determinant > -1e-6 * xx)
        tops = np.stack([xy * slope_y - yy * slope_x, xy * slope_x - xx * slope_y], axis=1)
        tops = tops / np.where(has_top, determinant, 1)[:, None] + np.stack([middle_x - x, middle_y - y], axis=1)
        result[:, :2] += np.where(has_top[:, None], np.clip(tops, -2, 2), 0).astype(np.float32)
    return result


def resize(maps: Array, size: tuple[int, int]) -> Array:
    """Resize maps (C, h, w) to ``size`` (width, height), bilinearly between the centres of pixels."""
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in maps])


def draw(image: Array, poses: Array, skeleton: Sequence[Sequence[int]], path: Path) -> None:
    """Write an image (H, W, 3) with the skeletons of poses (P, K, 3)."""
    image, width = image[..., ::-1].copy(), max(1, round(min(image.shape[:2]) / 160))
    for number, pose in enumerate(poses):
        hue = np.array([[[number * 111 % 180, 230, 255]]], np.uint8)
        colour = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
        points = np.clip(pose[:, :2], -1e5, 1e5).astype(int).tolist()
        for first, second in skeleton:
            if pose[first, 2] > 0 and pose[second, 2] > 0:
                cv2.line(image, points[first], points[second], colour, width, cv2.LINE_AA)
        for keypoint in np.flatnonzero(pose[:, 2] > 0):
            cv2.circle(image, points[keypoint], width + 1, colour, cv2.FILLED, cv2.LINE_AA)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise ValueError(f"cannot write {path}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Find people in images; prints one line of JSON per image.")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument(
        "--model", default=Path(__file__).parent, help="folder of the model, or file in it (default: that of pose.py)"
    )
    parser.add_argument("--min-score", type=float, default=0.2, help="leave out people below it (default: %(default)s)")
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write drawings to this folder")
    options = parser.parse_args()
    try:
        pose = Pose(options.model)
        for path in options.images:
            pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)  # turned as its EXIF data say
            if pixels is None:
                raise ValueError(f"{path} is not an image")
            image = np.ascontiguousarray(pixels[..., ::-1])
            poses, scores = pose(image, options.min_score)
            people = [
                {"score": round(float(score), 5), "keypoints": np.round(person.astype(float), 4).ravel().tolist()}
                for person, score in zip(poses, scores, strict=True)
            ]
            print(json.dumps({"source": path, "width": image.shape[1], "height": image.shape[0], "people": people}))
            if options.draw:
                draw(image, poses, pose.description["keypoints"]["skeleton"], options.draw / Path(path).name)
    except (OSError, ValueError, ImportError, cv2.error) as error:
        sys.exit(f"pose.py: {error}")


if __name__ == "__main__":
    main()
