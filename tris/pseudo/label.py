"""The label rule: a response map and its photograph become 0, 1 or 255 per pixel.

This module imports neither torch nor a network, so that the workers of `tris.pseudo.pool` start
fast and small.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from tris.errors import InputError
from tris.pseudo.contest import CompetitionConfig
from tris.pseudo.crf import CrfConfig, DenseCrf

IGNORE = 255
"""`tris.batch.IGNORE_INDEX`, which cannot be imported without torch; a test compares them."""

Degeneracy = Literal["sound", "empty", "whole"]
"""``empty`` = no foreground worth the name, ``whole`` = (almost) nothing but foreground."""


@dataclass(frozen=True)
class LabelConfig:
    """How a response map becomes a label.

    Attributes:
        normalisation: What the map is read as: ``max`` = rectified and divided by its maximum, as
            released; ``sigmoid`` = a probability, sigmoid of the response logit.
        refiner: ``crf`` = dense CRF; ``threshold`` = the map alone.
        rule: ``binary`` = one threshold, every pixel is 0 or 1; ``confident`` = IRNet's two:
            foreground where the refiner says so at ``foreground_threshold``, background where it
            says so at ``foreground_threshold`` and at ``background_threshold``, 255 between.
        foreground_threshold: Of the normalised map; it takes the place of ``crf.threshold``.
        background_threshold: Likewise, for the rule ``confident``.
        degenerate: What becomes of an empty label or one of the whole image: ``keep`` it, set all
            of it to 255 (``ignore``), or ``drop`` the referent from training.
        smallest_area: Labels whose foreground is no more than this fraction are empty.
        largest_area: Labels whose foreground is at least this fraction are whole.
        working_size: Longest side at which the CRF works, pixels; smaller images are not
            enlarged, the label has the photograph's size again. None = the photograph's own.
        crf: Of the refiner ``crf``; its reaches are in pixels of the working size.
        components: ``highest`` = a referent is in one piece: of its label the connected component
            (8 neighbours) stays in which its map is highest, of equally high ones the larger. The
            others become background (255 by the rule ``confident``); in a competition they are
            contested again without this referent. Not for referents of several objects. ``all`` =
            every component stays.
        competition: ``image`` = the referents of an image and the background share one CRF of
            many classes (`tris.pseudo.label_image`), so that labels of different objects never
            overlap; ``none`` = each is labelled as if it were alone. An image with one referent
            goes the ordinary way under either.
        competing: Settings of the competition; nothing depends on them without one.
    """

    normalisation: Literal["max", "sigmoid"] = "max"
    refiner: Literal["crf", "threshold"] = "crf"
    rule: Literal["binary", "confident"] = "binary"
    foreground_threshold: float = 0.42
    background_threshold: float = 0.1
    degenerate: Literal["keep", "ignore", "drop"] = "ignore"
    smallest_area: float = 0.0
    largest_area: float = 1.0
    working_size: int | None = 320
    crf: CrfConfig = field(default_factory=CrfConfig)
    components: Literal["all", "highest"] = "all"
    competition: Literal["none", "image"] = "none"
    competing: CompetitionConfig = field(default_factory=CompetitionConfig)

    def __post_init__(self) -> None:
        """Check the fields."""
        thresholds = (self.foreground_threshold, self.background_threshold)
        if not all(0 < threshold < 1 for threshold in thresholds):
            raise InputError(f"Label thresholds lie between 0 and 1, not {thresholds}.")
        if self.rule == "confident" and self.background_threshold > self.foreground_threshold:
            raise InputError(
                f"The background threshold ({self.background_threshold}) must not exceed the "
                f"foreground threshold ({self.foreground_threshold})."
            )
        if self.working_size is not None and self.working_size < 1:
            raise InputError(f"working_size is a number of pixels, not {self.working_size}.")
        if self.competition == "image" and self.rule == "confident":
            raise InputError("In a competition every pixel has one winner: take the rule binary.")


class PseudoLabel(NamedTuple):
    """The label of one referent.

    Attributes:
        label: 0, 1 or 255 at the photograph's size; None if the config drops labels of this kind.
        degeneracy: What the label was before the config had its say.
    """

    label: UInt8[np.ndarray, "height width"] | None
    degeneracy: Degeneracy


def label_referent(
    response_logits: Float[np.ndarray, "h w"],
    image: UInt8[np.ndarray, "height width 3"],
    config: LabelConfig,
) -> PseudoLabel:
    """Return the label of `make_label` after the config's rule for degenerate ones."""
    return judge_label(make_label(response_logits, image, config), config)


def judge_label(label: UInt8[np.ndarray, "height width"], config: LabelConfig) -> PseudoLabel:
    """Return a label after the config's rule for degenerate ones."""
    degeneracy = find_degeneracy(label, config)
    if degeneracy == "sound" or config.degenerate == "keep":
        return PseudoLabel(label, degeneracy)
    if config.degenerate == "ignore":
        return PseudoLabel(np.full_like(label, IGNORE), degeneracy)
    return PseudoLabel(None, degeneracy)


def make_label(
    response_logits: Float[np.ndarray, "h w"],
    image: UInt8[np.ndarray, "height width 3"],
    config: LabelConfig,
) -> UInt8[np.ndarray, "height width"]:
    """Return 0, 1 or 255 per pixel of the photograph.

    Args:
        response_logits: Before any activation, of any size; it covers the whole photograph.
        image: The photograph, RGB, original pixels.
        config: Normalisation, refiner and rule.

    Raises:
        InputError: If the map holds a value that is not finite.

    Source:
        TRIS (arXiv 2308.14575) section 3.4; IRNet (arXiv 1904.05044) for the confident rule.
    """
    return Labeller(image, config).make_label(response_logits)


class Labeller:
    """`make_label` for any number of maps of one photograph, whose CRF is built once.

    Args:
        image: The photograph, RGB, original pixels.
        config: Normalisation, refiner and rule.
    """

    def __init__(self, image: UInt8[np.ndarray, "height width 3"], config: LabelConfig) -> None:
        height, width = image.shape[:2]
        self._image, self._config = image, config
        self._size = (height, width)
        self._working_size = working_size(height, width, config.working_size)

    def make_label(
        self, response_logits: Float[np.ndarray, "h w"]
    ) -> UInt8[np.ndarray, "height width"]:
        """Return 0, 1 or 255 per pixel of the photograph.

        Raises:
            InputError: If the map holds a value that is not finite.
        """
        if not np.isfinite(response_logits).all():
            raise InputError("A response map holds values that are not finite; check the network.")
        config = self._config
        is_foreground = self._split(response_logits, config.foreground_threshold)
        if config.components == "highest":
            response = resize_map(response_logits, self._size)
            is_foreground = keep_highest_component(is_foreground, response)
        if config.rule == "binary":
            return is_foreground.astype(np.uint8)
        may_be_foreground = self._split(response_logits, config.background_threshold)
        label = np.where(may_be_foreground, np.uint8(IGNORE), np.uint8(0))
        label[is_foreground] = 1
        return label

    def _split(self, response_logits: Float[np.ndarray, "h w"], threshold: float) -> np.ndarray:
        normalisation = self._config.normalisation
        if self._config.refiner == "threshold":
            logits = resize_map(response_logits, self._size)
            return normalise_map(logits, normalisation) > threshold
        probability = normalise_map(resize_map(response_logits, self._working_size), normalisation)
        return resize_map(self._crf.refine(probability, threshold=threshold), self._size) > 0.5

    @cached_property
    def _crf(self) -> DenseCrf:
        image = resize_image(self._image, self._working_size)
        return DenseCrf(image, self._config.crf, num_classes=2)


def normalise_map(
    response_logits: Float[np.ndarray, "h w"], normalisation: Literal["max", "sigmoid"]
) -> Float[np.ndarray, "h w"]:
    """Return the map in [0, 1]; a map without a positive response is 0 under ``max``."""
    logits = response_logits.astype(np.float32)
    if normalisation == "max":
        rectified = logits.clip(min=0)
        normalised: np.ndarray = rectified / (rectified.max() + np.float32(1e-5))
        return normalised
    probability: np.ndarray = 0.5 * (1 + np.tanh(0.5 * logits))
    return probability


def keep_highest_component(
    is_foreground: Bool[np.ndarray, "height width"], response: Float[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Return the connected component (8 neighbours) in which the response is highest.

    Of equally high ones the larger; nothing where there is no foreground.
    """
    count, component, stats, _ = cv2.connectedComponentsWithStats(is_foreground.astype(np.uint8))
    if count <= 2:  # the background counts
        return is_foreground
    peaks = np.full(count, -np.inf)
    np.maximum.at(peaks, component[is_foreground], response[is_foreground])
    highest = np.lexsort((stats[:, cv2.CC_STAT_AREA], peaks))[-1]
    kept: np.ndarray = component == highest
    return kept


def find_degeneracy(label: UInt8[np.ndarray, "height width"], config: LabelConfig) -> Degeneracy:
    """Return whether a label is empty or covers the image; ignored pixels count as background."""
    area = float((label == 1).mean())
    if area <= config.smallest_area:
        return "empty"
    return "whole" if area >= config.largest_area else "sound"


def working_size(height: int, width: int, longest: int | None) -> tuple[int, int]:
    """Return height and width, shrunk so that the longer is at most ``longest`` pixels."""
    if longest is None or max(height, width) <= longest:
        return height, width
    scale = longest / max(height, width)
    return max(1, math.floor(height * scale + 0.5)), max(1, math.floor(width * scale + 0.5))


def resize_map(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map of floats at another size (height, width), bilinear."""
    if array.shape == size:
        return array
    plain = array.astype(np.float32)
    resized: np.ndarray = cv2.resize(plain, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a photograph at a smaller size (height, width), areas averaged."""
    if image.shape[:2] == size:
        return image
    small: np.ndarray = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return small
