"""Builds custom keypoint sets from an annotation file's category, from configuration, or from both.

Source: COCO's category entries hold ``keypoints`` (names) and ``skeleton`` (pairs counted from 1); ``sigmas`` and
``flip_pairs`` are read where a file has them. Keypoints are given by name or counted from 1, as in COCO.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Self

from supernet.errors import UserError, first_few
from supernet.io.schema import from_mapping
from supernet.pose.keypoint_names import Pairs, derived_pairs, sides_of, without_mirror_image, words_of
from supernet.pose.keypoints import BUILT_IN, COCO, CROWDPOSE, MAX_KEYPOINTS, KeypointSet, keypoint_set

DEFAULT_SIGMA = 0.072
"""OKS sigma of a keypoint that is in no published set: the median of COCO's 17."""

_KNOWN_SIGMAS = dict(zip(CROWDPOSE.names, CROWDPOSE.sigmas, strict=True)) | dict(
    zip(COCO.names, COCO.sigmas, strict=True)
)
_IN_CATEGORY = {"keypoints": "names", "sigmas": "sigmas", "flip_pairs": "flip_pairs", "skeleton": "skeleton"}
"""Key in a category -> field of ``CustomKeypoints``."""

logger = logging.getLogger(__name__)


class WrongOption(UserError):
    """A value of the configuration is wrong, and not one of the annotation file; the message begins with its field."""


@dataclass(frozen=True)
class CustomKeypoints:
    """The description of a keypoint set in the configuration; fields that are None come from the annotation file.

    Attributes:
        name: Name of the set; not that of a built-in set.
        names: K keypoint names.
        sigmas: K standard deviations for OKS.
        flip_pairs: Pairs (left, right) of names, or of numbers from 1.
        skeleton: Pairs that a drawing connects, given in the same way.
        area_from_box: Take 0.53 of a person's box for the area, as in CrowdPose; otherwise files must hold it.
        unpaired: Keypoints whose mirror image is unknown; if there are any, images are not mirrored.
    """

    name: str = "custom"
    names: tuple[str, ...] | None = None
    sigmas: tuple[float, ...] | None = None
    flip_pairs: tuple[tuple[Any, ...], ...] | None = None
    skeleton: tuple[tuple[Any, ...], ...] | None = None
    area_from_box: bool = False
    unpaired: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Raise UserError for an empty name or that of a built-in set."""
        if not self.name or self.name in BUILT_IN:
            raise UserError(f"the name of a custom keypoint set must not be {self.name!r}; choose another name")

    @classmethod
    def from_category(cls, category: Mapping[str, Any]) -> Self:
        """Read a category of an annotation file.

        Raises:
            UserError: An entry is of the wrong type.
        """
        values = {field: category[key] for key, field in _IN_CATEGORY.items() if category.get(key) is not None}
        return from_mapping(cls, values, "")

    def complete(self, category: Mapping[str, Any]) -> KeypointSet:
        """Build the keypoint set, taking from a category of an annotation file what the configuration leaves out.

        Missing mirror pairs are derived from left and right in the names; where no name has a side, their mirror images
        are unknown. A missing OKS sigma is the published one of a keypoint of that name, or ``DEFAULT_SIGMA``, with a
        warning.

        Raises:
            WrongOption: An entry of the configuration is wrong, or contradicts the names.
            UserError: The two disagree on the names, or an entry is missing, wrong, or contradicts the names.
        """
        file = CustomKeypoints.from_category(category)
        names = self.names if self.names is not None else file.names
        if not names:
            raise UserError("the names of the keypoints are missing; list them as keypoints of the category")
        if len(names) > MAX_KEYPOINTS:
            raise UserError(f"{len(names)} keypoints are listed, at most {MAX_KEYPOINTS} are allowed; list fewer")
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise UserError(f"the keypoint {repeated[0]!r} is listed more than once; give each its own name")
        if odd := [name for name in names if not name or not name.isprintable()]:
            raise UserError(f"the keypoint name {odd[0]!r} is empty or cannot be printed; give it another name")
        check_names(file.names, names, self.name)
        pairs = self.flip_pairs if self.flip_pairs is not None else file.flip_pairs
        bones = self.skeleton if self.skeleton is not None else file.skeleton
        unpaired = self.unpaired
        if unpaired is None:
            unpaired = without_mirror_image(names) if pairs is None else ()
        if unknown := set(unpaired) - set(names):
            raise WrongOption(f"unpaired names {sorted(unknown)[0]!r}, which is no keypoint; give names of keypoints")
        with _from_configuration(self.sigmas):
            sigmas = _sigmas(self.sigmas if self.sigmas is not None else file.sigmas, names)
        with _from_configuration(self.flip_pairs):
            flip_pairs = derived_pairs(names, unpaired) if pairs is None else _checked_pairs(pairs, names)
        with _from_configuration(self.skeleton):
            skeleton = _pairs(bones or (), names, "skeleton")
        return KeypointSet(self.name, names, sigmas, flip_pairs, skeleton, self.area_from_box, unpaired)

    def lists_pairs(self, category: Mapping[str, Any]) -> bool:
        """Whether mirror pairs are listed, here or in a category of an annotation file, and not derived from names."""
        return self.flip_pairs is not None or self.unpaired is not None or category.get("flip_pairs") is not None

    def for_network(self, network: KeypointSet) -> "CustomKeypoints":
        """Return a description that takes what it and the annotation file leave open from a network's keypoints."""
        return _CustomKeypointsFor(**vars(self), network=network)


@dataclass(frozen=True)
class _CustomKeypointsFor(CustomKeypoints):
    """The description of a keypoint set for a network: what it and the file leave open is as the network has it.

    Attributes:
        network: The keypoints that the network predicts.
    """

    network: KeypointSet = field(kw_only=True)

    def complete(self, category: Mapping[str, Any]) -> KeypointSet:
        """Build the keypoint set; it is the network's unless a field that matters (``difference``) is another."""
        names = self.names if self.names is not None else CustomKeypoints.from_category(category).names
        if names == self.network.names:
            own = {key: self.network.described()[key] for key in ("sigmas", "flip_pairs", "skeleton")}
            category = own | {key: value for key, value in category.items() if value is not None}
        return super().complete(category).for_network(self.network)

    def lists_pairs(self, category: Mapping[str, Any]) -> bool:
        """Always true: those of the network count."""
        return True


_REQUIRED = {field.name for field in fields(CustomKeypoints)} - {"unpaired"}
"""Entries of a complete description; earlier releases knew the mirror images of all keypoints."""


def from_plain(value: Any) -> KeypointSet:
    """Build the keypoint set that ``KeypointSet.to_plain`` described, or return a built-in one by name.

    Raises:
        UserError: There is no such set, or the description is incomplete or wrong.
    """
    if isinstance(value, str):
        return keypoint_set(value)
    if isinstance(value, Mapping) and (missing := _REQUIRED - value.keys()):
        raise UserError(
            f"keypoint set {value.get('name')!r} is unknown ({', '.join(BUILT_IN)} are known) and its description has "
            f"no {', '.join(sorted(missing))}; add them"
        )
    return from_mapping(CustomKeypoints, value, "keypoints").complete({})


def to_entry(keypoints: KeypointSet) -> dict[str, Any]:
    """Return the entry of a keypoint set in model.json: ``set`` and ``names``, and all fields of a custom set."""
    plain = keypoints.to_plain()
    if isinstance(plain, str):
        return {"set": plain, "names": list(keypoints.names)}
    return {"set": plain.pop("name"), **plain}


def from_entry(entry: Mapping[str, Any]) -> KeypointSet:
    """Build the keypoint set that ``to_entry`` described.

    Raises:
        UserError: There is no such set, or the description is incomplete or wrong.
    """
    if entry.get("set") in BUILT_IN:
        return keypoint_set(entry["set"])
    return from_plain({"name": entry.get("set"), **{key: value for key, value in entry.items() if key != "set"}})


def check_names(listed: Sequence[str] | None, names: Sequence[str], name: str) -> None:
    """Check that a file lists the keypoints of the set called ``name``, in its order.

    Case and separators do not matter, and a file may list none.

    Raises:
        UserError: They differ.
    """
    if listed is None:
        return
    if len(listed) != len(names):
        raise UserError(f"lists {len(listed)} keypoints, but the keypoint set {name} has {len(names)}")
    for number, (actual, expected) in enumerate(zip(listed, names, strict=True), start=1):
        if words_of(actual) != words_of(expected):
            raise UserError(f"calls keypoint {number} {actual!r}, but in the keypoint set {name} it is {expected!r}")


@contextmanager
def _from_configuration(value: object) -> Iterator[None]:
    """Turn a UserError into a WrongOption if the configuration gave the value, which is not None then."""
    try:
        yield
    except UserError as error:
        if value is None:
            raise
        raise WrongOption(str(error)) from error


def _checked_pairs(listed: Sequence[Sequence[Any]], names: Sequence[str]) -> Pairs:
    """Return mirror pairs as listed, unless they contradict the names (numbers counted from 0 mostly do)."""
    pairs = _pairs(listed, names, "flip_pairs")
    if len({end for pair in pairs for end in pair}) != 2 * len(pairs):
        raise UserError("flip_pairs name a keypoint twice; name each once")
    for lefts, rights in sides_of(names):
        if len(lefts) == len(rights) == 1 and not {(lefts[0], rights[0]), (rights[0], lefts[0])} & set(pairs):
            left, right = names[lefts[0]], names[rights[0]]
            raise UserError(
                f"flip_pairs do not pair {left!r} with {right!r}; give pairs of names, or of numbers from 1"
            )
    return pairs


def _pairs(listed: Sequence[Sequence[Any]], names: Sequence[str], key: str) -> Pairs:
    """Return pairs of names or of numbers from 1 as pairs of indices."""
    pairs = []
    for pair in listed:
        ends = [names.index(end) if end in names else end - 1 if type(end) is int else -1 for end in pair]
        if len(ends) != 2 or not all(0 <= end < len(names) for end in ends) or ends[0] == ends[1]:
            without = ", or leave it out with dataset.keypoints.skeleton=[]" if key == "skeleton" else ""
            raise UserError(
                f"{key} holds {list(pair)}, which is not a pair of the {len(names)} keypoints; give two names, or two "
                f"numbers from 1{without}"
            )
        pairs.append((ends[0], ends[1]))
    return tuple(pairs)


def _sigmas(listed: tuple[float, ...] | None, names: Sequence[str]) -> tuple[float, ...]:
    if listed is not None:
        if len(listed) != len(names) or not all(0 < sigma < math.inf for sigma in listed):
            raise UserError(f"sigmas must be {len(names)} numbers above 0, one for each keypoint")
        return listed
    known = {words_of(name): sigma for name, sigma in _KNOWN_SIGMAS.items()}
    unknown = [name for name in names if words_of(name) not in known]
    if unknown:
        logger.warning(
            "the OKS sigmas of %s are unknown and taken as %s, the median of COCO's; AP is comparable only where the "
            "same sigmas are used; set them as dataset.keypoints.sigmas",
            first_few(unknown),
            DEFAULT_SIGMA,
        )
    return tuple(known.get(words_of(name), DEFAULT_SIGMA) for name in names)
