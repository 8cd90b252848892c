"""Backgrounds cut from photographs that lie inside scikit-image's wheel: nothing is downloaded.

All are free of copyright restrictions, as scikit-image says: brick, camera, chelsea, coffee, grass
and gravel are CC0, astronaut (NASA) and rocket (SpaceX) in the public domain.
"""

from functools import lru_cache
from importlib import resources

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tris.errors import InputError

PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png"),
    *("gravel.png", "rocket.jpg"),
)

_TRAINING_PART = 0.62
"""Columns of a photograph, from the left, that training sees; the other splits see the rest."""


def cut_background(
    side: int, rng: np.random.Generator, *, is_training: bool
) -> Float[np.ndarray, "side side 3"]:
    """Return a random piece of a random photograph, RGB in [0, 255].

    Its contrast is lowered, so that objects stand out.

    Raises:
        InputError: If scikit-image comes without its photographs.
    """
    photograph = _read(PHOTOGRAPHS[int(rng.integers(len(PHOTOGRAPHS)))])
    cut = int(photograph.shape[1] * _TRAINING_PART)
    part = photograph[:, :cut] if is_training else photograph[:, cut:]
    most = min(part.shape[:2])
    size = int(rng.integers(most // 2, most + 1))
    top = int(rng.integers(part.shape[0] - size + 1))
    left = int(rng.integers(part.shape[1] - size + 1))
    piece = part[top : top + size, left : left + size]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    small = cv2.resize(np.ascontiguousarray(piece), (side, side), interpolation=cv2.INTER_AREA)
    tint = rng.uniform(-22, 22, 3).astype(np.float32)
    calm = 128 + 0.6 * (small.astype(np.float32) - 128)
    return np.asarray(np.clip(calm + tint, 0, 255), np.float32)


@lru_cache(maxsize=len(PHOTOGRAPHS))
def _read(name: str) -> UInt8[np.ndarray, "height width 3"]:
    with resources.as_file(resources.files("skimage") / "data" / name) as path:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise InputError(f"scikit-image is installed without data/{name}; install its wheel anew.")
    return np.asarray(pixels[..., ::-1], np.uint8)
