"""Finds people in images with the network in this folder, without the project that trained it.

It needs Python 3.10, numpy, opencv-python-headless and the library of the file to run (see the functions ``open_...``).
``python pose.py photo.jpg`` prints the people of each image as a line of JSON; ``--draw FOLDER`` also draws them. In a
program: ``poses, scores = Pose("this/folder")(image)`` for an image (H, W, 3) uint8, RGB.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def open_onnx(path: Path, threads: int) -> tuple[Any, str, Any]:
    """Open a file in ONNX Runtime. For another library, enter a function like this one in ``RUNTIMES``.

    Return what runs images and returns the outputs by name, ``low`` and ``high`` or ``detections``; the images that it
    takes, "uint8" (1, H, W, 3) or "float32" (1, 3, H, W) normalised; and the description in the file, or None.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no other type in common
        raise ValueError(f"{path} is not a network that this ONNX Runtime can open") from error
    names = [output.name for output in session.get_outputs()]
    description = json.loads(session.get_modelmeta().custom_metadata_map.get("litepose", "null"))
    takes = "uint8" if "uint8" in session.get_inputs()[0].type else "float32"
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True)), takes, description


def open_ncnn(path: Path, threads: int) -> tuple[Any, str, Any]:
    """Open a file in ncnn, in 32-bit floats as it was checked; 16 bits are faster on Arm: measure what they cost."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads or num_cores()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise ValueError(f"{path} and its .bin file are not a network")

    def run(images: Array) -> dict[str, Array]:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(images[0]))
        return {name: np.array(extractor.extract(blob)[1])[None] for name, blob in (("low", "out0"), ("high", "out1"))}

    return run, "float32", None


def open_litert(path: Path, threads: int) -> tuple[Any, str, Any]:
    """Open a file in LiteRT (ai-edge-litert)."""
    from ai_edge_litert.interpreter import Interpreter

    network = Interpreter(model_path=str(path), num_threads=threads or num_cores())
    runner = network.get_signature_runner()
    source, outputs = runner.get_input_details()["images"], runner.get_output_details()

    def run(images: Array) -> dict[str, Array]:
        if images.shape != tuple(network.get_input_details()[0]["shape"]):
            network.resize_tensor_input(source["index"], images.shape)
        network.allocate_tensors()
        network.set_tensor(source["index"], images)
        network.invoke()
        return {name: network.get_tensor(value["index"]) for name, value in outputs.items()}

    return run, "uint8" if source["dtype"] == np.uint8 else "float32", None


def open_mnn(path: Path, threads: int) -> tuple[Any, str, Any]:
    """Open a file in MNN, which greets on standard output, where the results go."""
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        import MNN

        settings = {"backend": "CPU", "precision": "high", "numThread": threads or num_cores()}
        manager = MNN.nn.create_runtime_manager((settings,))
        net = MNN.nn.load_module_from_file(str(path), ["images"], ["low", "high"], runtime_manager=manager)
    except SystemError as error:
        raise ValueError(f"{path} is not a network") from error
    finally:
        os.dup2(output, 1)
        os.close(output)
    order = MNN.expr.NCHW

    def run(images: Array, kept: object = manager) -> dict[str, Array]:
        outputs = net.forward([MNN.expr.const(images, list(images.shape), order, MNN.expr.float)])
        return {name: np.array(MNN.expr.convert(outputs[n], order).read()) for n, name in enumerate(("low", "high"))}

    return run, "float32", None


RUNTIMES: dict[str, Callable[[Path, int], tuple[Any, str, Any]]] = {
    "model.onnx": open_onnx,
    "model.ncnn.param": open_ncnn,
    "model.tflite": open_litert,
    "model.mnn": open_mnn,
    "model_int8.tflite": open_litert,
}
"""By the file that they open. Of a folder, the first that is there is used."""


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pose:
    """The network in ``path``, the folder of an exported model or the file in it to run; 0 threads are all cores.

    One thread of a program may call it at a time; make one for each.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        files = [Path(path, name) for name in RUNTIMES] if Path(path).is_dir() else [Path(path)]
        file = next((file for file in files if file.is_file()), files[0])
        by_suffix = {Path(name).suffix: opener for name, opener in RUNTIMES.items()}  # a file may have another name
        opener = RUNTIMES.get(file.name) or by_suffix.get(file.suffix)
        if opener is None or not file.is_file():
            what = "holds none of" if Path(path).is_dir() else "is not a file like"
            raise FileNotFoundError(f"{path} {what} {', '.join(RUNTIMES)}; export it in one of these formats")
        self.run, self.takes, own = opener(file, threads)
        self.description = own or json.loads((file.parent / "model.json").read_text("utf-8"))["decoder"]
        self.settings, self.input = self.description["inference"], self.description["input"]
        if self.settings["scales"] != [1.0]:
            raise ValueError(f"pose.py runs images at one scale, and this model needs {self.settings['scales']}")

    def __call__(self, image: Array, min_score: float = 0.0) -> tuple[Array, Array]:
        """Return the people in an image (H, W, 3) uint8, RGB, whose score is at least ``min_score``.

        They are poses (P, K, 3): x, y in pixels of the image and a value, all 0 for a keypoint not found; scores (P,).
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image must be (H, W, 3) uint8, RGB, not {image.shape} {image.dtype}")
        if not 0 < max(image.shape[:2]) <= 64 * min(image.shape[:2]):  # a longer input would fill the memory
            raise ValueError(f"an image must be at most 64 times as long as wide, not {image.shape[:2]}; crop it")
        resized, scale, offset = self._resized(image)
        pixels = np.stack([resized, resized[:, ::-1]])[: 2 if self.settings["flip_test"] else 1]
        if self.takes == "float32":
            pixels = (pixels - np.float32(self.input["mean"])) / np.float32(self.input["std"])
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        outputs = [self.run(one[None]) for one in pixels]
        if not all(np.isfinite(values).all() for output in outputs for values in output.values()):
            raise ValueError("the network gave values that are not finite; run it in 32-bit floats")
        if "detections" in outputs[0]:
            entries = outputs[0]["detections"][0]
            poses, scores = group(entries, self.description, partial(from_list, entries))
        else:
            heat, tags = self._maps(outputs, resized.shape[1::-1])
            found = [detections(*maps, self.settings) for maps in zip(heat, tags, strict=True)]
            poses, scores = group(found, self.description, partial(from_maps, heat, tags, self.settings))
        seen = poses[..., 2] > 0
        poses[seen, :2] = poses[seen, :2].astype(np.float64) * scale + offset
        return poses[scores >= min_score], scores[scores >= min_score]

    def _resized(self, image: Array) -> tuple[Array, float, Array]:
        """Return the input (H, W, 3), black outside the image, and: image point = input point * scale + offset."""
        size = np.array(image.shape[1::-1])
        side, multiple = self.input["short_side"], self.input["long_side_multiple_of"]
        whole = size * side // size.min()  # the short side becomes `side`, and the long one rounds up to the multiple
        whole = np.where(size == size.min(), side, np.maximum(-(-whole // multiple) * multiple, side))
        scale = float(size.min() / side)
        offset = (size + 1) // 2 - whole * scale / 2
        matrix = np.column_stack([np.eye(2) * scale, offset + 0.5 * scale - 0.5])  # OpenCV counts from pixels' centres
        warped = cv2.warpAffine(image, matrix, whole.tolist(), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        return np.asarray(warped), scale, offset

    def _maps(self, outputs: list[dict[str, Array]], size: tuple[int, ...]) -> tuple[Array, Array]:
        """Heatmaps (K, H, W), averaged, and tags (K, T, H, W) of an image and its mirror image, at the input's size."""
        swapped = np.arange(len(self.description["keypoints"]["names"]))
        for pair in self.description["keypoints"]["flip_pairs"]:
            swapped[pair] = pair[::-1]
        maps = []
        for mirrored, output in enumerate(outputs):
            low, high = output["low"][0], output["high"][0]
            half = high.shape[:0:-1]
            parts = (resize(low[: len(high)], half) + high) / 2, resize(low[len(high) :], half)
            resized = [resize(part, size) for part in parts]
            maps.append([part[swapped, :, ::-1] for part in resized] if mirrored else resized)
        heat, tags = (np.stack(parts, axis=1) for parts in zip(*maps, strict=True))
        return heat.mean(axis=1), tags


def group(entries: Sequence[Array], description: Any, fill_in: Callable[[int, Array], Array]) -> tuple[Array, Array]:
    """Match detections by their tags, keypoint by keypoint, into people (arXiv 1611.05424, section 3.3).

    ``entries`` are K arrays (M, 3 + T) of x, y, value, tags, by falling value. ``fill_in`` is given a keypoint and the
    mean tags (N, T) of people without it, and returns what to add (N, 3), 0 for nothing.
    """
    settings = description["inference"]
    most, threshold = settings["max_people"], settings["tag_threshold"]
    poses = np.zeros((sum(map(len, entries)), len(entries), 3), np.float32)
    sums, counts, num = np.zeros((len(poses), entries[0].shape[1] - 3)), np.zeros((len(poses), 1)), 0
    for keypoint in description["keypoint_order"]:
        found = entries[keypoint][entries[keypoint][:, 2] > settings["detection_threshold"]][:most]
        tags, person, old = found[:, 3:].astype(np.float64), np.full(len(found), -1), min(num, most)
        if len(found) and old:
            distance = np.linalg.norm(tags[:, None] - sums[:old] / counts[:old], axis=2)
            cost, num_alone, price = np.rint(distance) * 100 - found[:, 2:3], len(found), np.rint(threshold) * 100
            if settings["matching"] == "thresholded":
                cost[distance >= threshold] = 1e6
            else:
                num_alone, price = max(0, len(found) - old), 1e6
            column = assign(np.pad(cost, ((0, 0), (0, num_alone)), constant_values=price))
            near = np.pad(distance, ((0, 0), (0, num_alone)), constant_values=np.inf)[range(len(found)), column]
            person[near < threshold] = column[near < threshold]
        num += (person < 0).sum()
        person[person < 0] = np.arange(num - (person < 0).sum(), num)
        poses[person, keypoint] = found[:, :3]
        sums[person] += tags
        counts[person] += 1
    poses, means = poses[:num], (sums[:num] / counts[:num]).astype(np.float32)
    scores = poses[..., 2].mean(axis=1)
    for keypoint in range(len(entries) if settings["refine"] else 0):
        lacking = np.flatnonzero(poses[:, keypoint, 2] == 0)
        poses[lacking, keypoint] = fill_in(keypoint, means[lacking])
    return poses, scores


def assign(cost: Array) -> Array:
    """Return the column of each row (N,) at the least total cost (N, M), N <= M, by shortest augmenting paths.

    Source: Crouse, 2016 (doi 10.1109/TAES.2016.140952). Of equal costs it chooses as SciPy's solver does.
    """
    num_rows, num_columns = cost.shape
    u, v, column_of, row_of = np.zeros(num_rows), np.zeros(num_columns), np.full(num_rows, -1), np.full(num_columns, -1)
    for start in range(num_rows):
        left, length, via = np.arange(num_columns)[::-1].copy(), np.full(num_columns, np.inf), np.full(num_columns, -1)
        row, total, path = start, 0.0, []
        while row >= 0:
            reached = total + cost[row, left] - u[row] - v[left]
            shorter = reached < length[left]
            length[left[shorter]], via[left[shorter]] = reached[shorter], row
            total = length[left].min()
            closest = np.flatnonzero(length[left] == total)
            free = closest[row_of[left[closest]] < 0]
            place = free[-1] if len(free) else closest[0]  # the last free one, else the first
            path.append(left[place])
            row = row_of[left[place]]
            left[place], left = left[-1], left[:-1]
        *inner, column = path
        u[start] += total
        u[row_of[inner]] += total - length[inner]
        v[inner] -= total - length[inner]
        while column >= 0:  # along the path, each row takes the next column
            row = row_of[column] = via[column]
            column_of[row], column = column, column_of[row]
    return column_of


def nearest(values: Array, tags: Array, means: Array) -> Array:
    """Return where values (N,) minus the rounded distances of tags (T, N) to means (P, T) are highest, (P,)."""
    best = []
    for mean in means:
        apart = [np.abs(tag - one) for tag, one in zip(tags, mean, strict=True)]
        distance = apart[0] if len(apart) == 1 else np.sqrt(sum(map(np.square, apart)))
        best.append(np.argmax(values - np.rint(distance)))
    return np.array(best, int)


def from_list(entries: Array, keypoint: int, means: Array) -> Array:
    """Return the detections (N, 3), of (K, M, 4), that fit mean tags (N, 1) best; 0 if there are none."""
    found = entries[keypoint][entries[keypoint][:, 2] > 0]
    return found[nearest(found[:, 2], found[:, 3:].T, means), :3] if len(found) else np.zeros(3)


def from_maps(heat: Array, tags: Array, settings: Any, keypoint: int, means: Array) -> Array:
    """Return the pixels (N, 3) of heatmaps (K, H, W) that fit mean tags (N, T) best; 0 where their value is none."""
    y, x = np.divmod(nearest(heat[keypoint].ravel(), tags[keypoint].reshape(tags.shape[1], -1), means), heat.shape[2])
    pixels = positions(heat[keypoint], x, y, settings)
    return np.where(pixels[:, 2:] > 0, pixels, 0)


def detections(heat: Array, tags: Array, settings: Any) -> Array:
    """Return the best maxima of a heatmap (H, W), by falling value: x, y, value, tags of (T, H, W), (M, 3 + T)."""
    side = settings["nms_kernel"]
    is_peak = (heat > settings["detection_threshold"]) & (heat == cv2.dilate(heat, np.ones((side, side), np.uint8)))
    y, x = np.nonzero(is_peak)
    kept: list[list[float]] = []
    peaks = zip(heat[y, x].tolist(), y.tolist(), x.tolist(), strict=True)
    for value, row, column in sorted(peaks, key=lambda peak: -peak[0]):  # of equal ones beside each other, the first
        if not any(v == value and max(abs(r - row), abs(c - column)) <= side // 2 for v, r, c in kept):
            kept.append([value, row, column])
        if len(kept) == settings["max_people"]:
            break
    _, y, x = np.array(kept).reshape(-1, 3).T.astype(int)
    return np.concatenate([positions(heat, x, y, settings), tags[:, y, x].T], axis=1)


def positions(heat: Array, x: Array, y: Array, settings: Any) -> Array:
    """Return x, y and value (N, 3) of pixels of a heatmap (H, W), moved to where it peaks within them."""
    height, width = heat.shape
    result = np.stack([x + 0.5, y + 0.5, heat[y, x]], axis=1).astype(np.float32)
    if settings["adjust"] and settings["decoding"] == "published":  # a quarter pixel to the higher neighbour
        right = heat[y, np.minimum(x + 1, width - 1)] > heat[y, np.maximum(x - 1, 0)]
        down = heat[np.minimum(y + 1, height - 1), x] > heat[np.maximum(y - 1, 0), x]
        result[:, :2] += np.stack([right, down], axis=1) / 2 - 0.25
    elif settings["adjust"]:  # to the top of a Gaussian that is fitted to 5 x 5 pixels by least squares
        middle = np.stack([np.clip(x, 2, width - 3), np.clip(y, 2, height - 3)], axis=1)
        dy, dx = (offsets.ravel() for offsets in np.mgrid[-2:3, -2:3])
        terms = np.stack([dx / 50, dy / 50, (dx**2 - 2) / 35, (dy**2 - 2) / 35, dx * dy / 100], axis=1)
        peaks = np.where(heat[y, x] > 0, heat[y, x], 1).astype(np.float64)
        patches = heat[middle[:, 1:] + dy, middle[:, :1] + dx] / peaks[:, None]
        slope_x, slope_y, xx, yy, xy = (np.log(np.maximum(patches, 0.01)) @ terms).T
        determinant = xx * yy - xy**2
        has_top = (xx < -1e-6) & (determinant > -1e-6 * xx)
        tops = np.stack([xy * slope_y - yy * slope_x, xy * slope_x - xx * slope_y]) / np.where(has_top, determinant, 1)
        moves = np.clip(tops.T + middle - np.stack([x, y], axis=1), -2, 2)
        result[has_top, :2] += moves[has_top]
    return result


def resize(maps: Array, size: tuple[int, ...]) -> Array:
    """Resize maps (C, h, w) to ``size`` (width, height), bilinearly between the centres of pixels."""
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in maps])


def draw(image: Array, poses: Array, skeleton: list[list[int]], path: Path) -> None:
    """Write an image (H, W, 3) with the skeletons of poses (P, K, 3)."""
    drawing, width = image[..., ::-1].copy(), max(1, round(min(image.shape[:2]) / 160))
    colours = ((60, 220, 60), (40, 160, 255), (255, 120, 40), (220, 60, 220), (60, 230, 230), (80, 80, 255))
    for number, pose in enumerate(poses):
        points = pose[:, :2].astype(int).tolist()
        for first, second in [*skeleton, *([keypoint] * 2 for keypoint in range(len(pose)))]:
            if pose[first, 2] > 0 and pose[second, 2] > 0:  # a keypoint is a thick line to itself
                thickness = 3 * width if first == second else width
                cv2.line(drawing, points[first], points[second], colours[number % 6], thickness, cv2.LINE_AA)
    if not cv2.imwrite(str(path), drawing):
        raise ValueError(f"cannot write {path}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Find people in images; prints one line of JSON per image.")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--model", default=Path(__file__).parent, help="folder, or file in it (default: of pose.py)")
    parser.add_argument("--min-score", type=float, default=0.2, help="leave out people below it (default: %(default)s)")
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write drawings to this folder")
    options = parser.parse_args()
    try:
        find_people = Pose(options.model)
        for path in options.images:
            content = np.fromfile(path, np.uint8)
            pixels = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None  # turned as its EXIF data say
            if pixels is None:
                raise ValueError(f"{path} is not an image")
            image = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
            poses, scores = find_people(image, options.min_score)
            rows = zip(np.round(scores.astype(float), 5), np.round(poses.astype(float), 4), strict=True)
            people = [{"score": float(score), "keypoints": pose.ravel().tolist()} for score, pose in rows]
            print(json.dumps({"source": path, "width": image.shape[1], "height": image.shape[0], "people": people}))
            if options.draw:
                options.draw.mkdir(parents=True, exist_ok=True)
                stem, number = Path(path).stem, 1
                while (target := options.draw / f"{stem}{'' if number == 1 else number}.jpg").exists():
                    number += 1  # nothing is overwritten
                draw(image, poses, find_people.description["keypoints"]["skeleton"], target)
    except (OSError, ValueError, ImportError, cv2.error) as error:
        parser.exit(2, f"pose.py: {error}\n")


if __name__ == "__main__":
    main()
