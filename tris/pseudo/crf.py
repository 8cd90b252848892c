"""The dense CRF: a soft map and a photograph become a crisp mask. Alone in knowing pydensecrf.

pydensecrf2 (the fork that builds on Python >= 3.11; it imports as ``pydensecrf``) wants its arrays
C-contiguous, writable and of exactly float32 / uint8; it is the caller of this module who may give
any layout.
"""

import importlib.util
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from tris.errors import InputError

SMALLEST_PROBABILITY = 1e-4
"""Of either class, before its logarithm is taken."""


@dataclass(frozen=True)
class CrfConfig:
    """How a map becomes unary energies, and how strongly pixels pull at each other.

    The defaults are those that help on photographs (``docs/pseudo_labels.md``); the published ones
    are `PUBLISHED_CRF`.

    Attributes:
        unary: ``hard`` = the map is thresholded and each pixel trusts its class by ``certainty``;
            ``relative`` = sigmoid(steepness (p / max p - threshold)), for maps whose scale means
            nothing; ``logit`` = sigmoid(steepness (logit p - logit threshold)), for probabilities
            (with steepness 1 and threshold .5 they are taken as they are).
        threshold: Value of the map at which both classes are equally likely; a pixel of a ``hard``
            unary is foreground if it is above.
        certainty: Probability of a pixel's own class (``hard`` only; gt_prob of IRNet).
        steepness: Slope of the unary (``relative`` and ``logit``).
        num_iterations: Of mean field.
        gaussian_sxy: Reach of the smoothness kernel, pixels.
        gaussian_compat: Its weight; 0 leaves it out.
        bilateral_sxy: Reach of the appearance kernel, pixels.
        bilateral_srgb: How alike colours must be, in steps of 0-255.
        bilateral_compat: Its weight; 0 leaves it out.
    """

    unary: Literal["hard", "relative", "logit"] = "relative"
    threshold: float = 0.42
    certainty: float = 0.7
    steepness: float = 10.0
    num_iterations: int = 10
    gaussian_sxy: float = 2.0
    gaussian_compat: float = 3.0
    bilateral_sxy: float = 20.0
    bilateral_srgb: float = 6.0
    bilateral_compat: float = 6.0

    def __post_init__(self) -> None:
        """Check the fields."""
        if not 0 < self.threshold < 1:
            raise InputError(f"The CRF's threshold lies between 0 and 1, not {self.threshold}.")
        if not 0.5 < self.certainty < 1:
            raise InputError(f"The CRF's certainty lies between 0.5 and 1, not {self.certainty}.")
        positive = ("steepness", "gaussian_sxy", "bilateral_sxy", "bilateral_srgb")
        for name in positive:
            if not getattr(self, name) > 0:
                raise InputError(f"The CRF's {name} must be above 0, not {getattr(self, name)}.")
        for name in ("num_iterations", "gaussian_compat", "bilateral_compat"):
            if not getattr(self, name) >= 0:
                raise InputError(f"The CRF's {name} cannot be negative ({getattr(self, name)}).")


PUBLISHED_CRF = CrfConfig(
    unary="hard",
    threshold=0.3,
    certainty=0.7,
    num_iterations=10,
    gaussian_sxy=3.0,
    gaussian_compat=3.0,
    bilateral_sxy=50.0,
    bilateral_srgb=5.0,
    bilateral_compat=10.0,
)
"""As IRNet and after it TRIS run it; it lowers the mean IoU of coarse maps on photographs."""


def refine_with_crf(
    probability: Float[np.ndarray, "height width"],
    image: UInt8[np.ndarray, "image_height image_width 3"],
    config: CrfConfig,
) -> Float[np.ndarray, "height width"]:
    """Return the foreground probability after mean field; above .5 is foreground.

    Args:
        probability: The map, in [0, 1].
        image: The photograph at the same size, RGB.
        config: Unary and kernels.

    Raises:
        InputError: If sizes differ, the map leaves [0, 1], or pydensecrf2 is not installed.

    Source:
        Krähenbühl and Koltun, NeurIPS 2011; IRNet (arXiv 1904.05044) for the hard unary.
    """
    return DenseCrf(image, config, num_classes=2).refine(probability, threshold=config.threshold)


class DenseCrf:
    """The kernels over one photograph, for any number of maps: they take half of a map's time.

    Args:
        image: The photograph, RGB.
        config: Unary, kernels and iterations.
        num_classes: Of what is inferred.

    Raises:
        InputError: If pydensecrf2 is not installed.
    """

    def __init__(
        self,
        image: UInt8[np.ndarray, "image_height image_width 3"],
        config: CrfConfig,
        *,
        num_classes: int,
    ) -> None:
        if importlib.util.find_spec("pydensecrf") is None:
            raise InputError(
                "The CRF needs the package pydensecrf2, which is not installed: run `pip install "
                "pydensecrf2` (it builds with a C++ compiler), or choose the refiner threshold."
            )
        from pydensecrf.densecrf import DenseCRF2D

        self._size, self._config = image.shape[:2], config
        self._crf = DenseCRF2D(image.shape[1], image.shape[0], num_classes)
        if config.gaussian_compat:
            self._crf.addPairwiseGaussian(sxy=config.gaussian_sxy, compat=config.gaussian_compat)
        if config.bilateral_compat:
            self._crf.addPairwiseBilateral(
                sxy=config.bilateral_sxy,
                srgb=config.bilateral_srgb,
                rgbim=_as_plain(image, np.uint8),
                compat=config.bilateral_compat,
            )

    def refine(
        self, probability: Float[np.ndarray, "height width"], *, threshold: float
    ) -> Float[np.ndarray, "height width"]:
        """Return what `refine_with_crf` does, of two classes, whatever the config's threshold.

        Raises:
            InputError: If sizes differ or the map leaves [0, 1].
        """
        if not (probability.min() >= 0 and probability.max() <= 1):
            raise InputError(
                f"The CRF needs a map in [0, 1]; this one spans {probability.min()} to "
                f"{probability.max()}: apply an activation or divide by the maximum first."
            )
        rule = replace(self._config, threshold=threshold)
        foreground = foreground_probability(probability, rule)
        refined: np.ndarray = self.infer(-np.log(np.stack([1 - foreground, foreground])))[1]
        return refined

    def infer(
        self, unary_energy: Float[np.ndarray, "classes height width"]
    ) -> Float[np.ndarray, "classes height width"]:
        """Return class probabilities after mean field with Potts potentials over any classes.

        Args:
            unary_energy: -log probability per class and pixel.

        Raises:
            InputError: If sizes differ.
        """
        classes, height, width = unary_energy.shape
        if self._size != (height, width):
            raise InputError(
                f"The CRF got a map of {height} x {width} pixels and an image of "
                f"{self._size[0]} x {self._size[1]}; resize one to the other."
            )
        self._crf.setUnaryEnergy(_as_plain(unary_energy.reshape(classes, -1), np.float32))
        refined = np.array(self._crf.inference(self._config.num_iterations), dtype=np.float32)
        return refined.reshape(classes, height, width)


def foreground_probability(
    probability: Float[np.ndarray, "height width"], config: CrfConfig
) -> Float[np.ndarray, "height width"]:
    """Return what the config's unary makes of a map in [0, 1], clipped away from 0 and 1."""
    if config.unary == "hard":
        return np.where(
            probability > config.threshold, config.certainty, 1 - config.certainty
        ).astype(np.float64)
    p = probability.astype(np.float64)
    if config.unary == "relative":
        margin = p / (p.max() + 1e-5) - config.threshold
    else:
        margin = _logit(p) - math.log(config.threshold / (1 - config.threshold))
    foreground: np.ndarray = 1 / (1 + np.exp(-config.steepness * margin))
    return foreground.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)


def _logit(p: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    clipped = p.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    logit: np.ndarray = np.log(clipped / (1 - clipped))
    return logit


def _as_plain(array: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
    return np.require(array, dtype, ["C_CONTIGUOUS", "WRITEABLE"])
