"""What needs no training: the whole image, the centre, and what stands out by colour."""

from collections.abc import Iterator
from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tris.data.images import read_photograph
from tris.data.index import Index
from tris.metrics.evaluator import Prediction

Baseline = Literal["whole_image", "centre_disc", "saliency"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

CENTRE_AREA = 0.25
"""Share of the shorter side that is the radius of the centre disc."""


def predict_baseline(
    name: Baseline, index: Index, *, process_index: int = 0, num_processes: int = 1
) -> Iterator[Prediction]:
    """Yield a baseline's map for each of this process's referents; its sentences share it."""
    for row in range(process_index, len(index), num_processes):
        referent = index[row]
        size = (referent.height, referent.width)
        if name == "saliency":
            path = index.image_path(referent)
            photograph = read_photograph(path, is_turned=referent.is_turned)
            response = find_salient(np.asarray(photograph, dtype=np.uint8))
        else:
            response = _centred(size) if name == "centre_disc" else _centred(size) + 1
        yield Prediction(referent, 0, response)


def find_salient(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    """Return how far each pixel's colour is from the image's mean; above 0 is foreground.

    The threshold is Otsu's.

    Source:
        Achanta et al., "Frequency-tuned salient region detection", CVPR 2009.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    smooth = cv2.GaussianBlur(lab, (5, 5), 0)
    distance = np.linalg.norm(smooth - lab.reshape(-1, 3).mean(axis=0), axis=2)
    scaled = (255 * distance / max(float(distance.max()), 1e-6)).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray((scaled.astype(np.float32) - threshold) / 255)


def _centred(size: tuple[int, int]) -> Float[np.ndarray, "height width"]:
    """Return a cone that is above 0 within the centre disc and never below -1."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
    cone = 1 - distance / (CENTRE_AREA * min(size))
    return np.asarray(cone.clip(min=-0.99), dtype=np.float32)
