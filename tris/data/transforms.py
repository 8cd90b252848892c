"""From photographs to network inputs, and from network maps back to original pixels.

Nothing outside the data room knows about sizes: `fit_size` says which part of the input shows the
photograph (top left), `to_original` undoes it.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from tris.batch import IGNORE_INDEX, InputSpec
from tris.data.images import read_photograph
from tris.data.index import Index, Referent
from tris.data.masks import resize_mask
from tris.errors import InputError


def fit_size(original_size: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
    """Return height and width of the photograph inside the network input, pixels."""
    if spec.resize == "squash":
        return spec.image_size
    scale = min(spec.image_size[0] / original_size[0], spec.image_size[1] / original_size[1])
    height, width = (max(1, round(side * scale)) for side in original_size)
    return min(height, spec.image_size[0]), min(width, spec.image_size[1])


def resize_photograph(
    image: Image.Image, spec: InputSpec
) -> UInt8[np.ndarray, "content_height content_width 3"]:
    """Return RGB pixels at the size of `fit_size`; PIL's bilinear rule, as the released code."""
    height, width = fit_size((image.height, image.width), spec)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image, np.uint8)


def to_input(
    pixels: UInt8[np.ndarray, "content_height content_width 3"], spec: InputSpec
) -> Float[Tensor, "3 height width"]:
    """Normalise and pad to the network input; the padding is zero after normalisation."""
    factor, shift = _normalization(spec.mean, spec.std)
    content = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32, copy=True).contiguous()
    content.mul_(factor).add_(shift)
    bottom, right = (spec.image_size[i] - pixels.shape[i] for i in (0, 1))
    return F.pad(content, (0, right, 0, bottom)) if bottom or right else content


def to_target(
    mask: UInt8[np.ndarray, "original_height original_width"], spec: InputSpec
) -> UInt8[Tensor, "height width"]:
    """Bring a mask of the photograph to the network input, nearest neighbour.

    Padding becomes `IGNORE_INDEX`: no loss may look at it.
    """
    original_height, original_width = mask.shape
    height, width = fit_size((original_height, original_width), spec)
    target = np.full(spec.image_size, IGNORE_INDEX, np.uint8)
    target[:height, :width] = resize_mask(mask, (height, width))
    return torch.from_numpy(target)


def mirror_content(
    pixels: Shaped[Tensor, "*channels height width"], content_size: tuple[int, int]
) -> Shaped[Tensor, "*channels height width"]:
    """Mirror the photograph inside a network input left to right; the padding stays where it is."""
    height, width = content_size
    mirrored = pixels.clone()
    mirrored[..., :height, :width] = pixels[..., :height, :width].flip(-1)
    return mirrored


def to_original(
    maps: Float[Tensor, "maps height width"],
    original_size: tuple[int, int],
    content_size: tuple[int, int],
) -> Float[Tensor, "maps original_height original_width"]:
    """Bring maps of one photograph back to its own pixels, bilinear.

    Corners are aligned, as in the released TRIS evaluation, though the photograph itself was not
    resized so: what is shown and what is scored are the same masks.

    Args:
        maps: At the resolution of the network input (not of its features).
        original_size: Height, width of the photograph.
        content_size: Height, width of the part of the input that shows it (see `fit_size`).
    """
    content = maps[:, : content_size[0], : content_size[1]]
    if tuple(content_size) == tuple(original_size):
        return content
    resized = F.interpolate(
        content[None], size=tuple(original_size), mode="bilinear", align_corners=True
    )
    return resized[0]


class PhotographReader:
    """Reads the photographs of an index at network size.

    With ``cache_images`` every photograph is decoded once per process and kept as bytes: for small
    sets that are seen many times (4,000 images of 96 pixels take 110 MB).
    """

    def __init__(self, index: Index, spec: InputSpec, *, cache_images: bool = False) -> None:
        self.spec = spec
        self._index = index
        self._cache: dict[str, UInt8[np.ndarray, "content_height content_width 3"]] | None
        self._cache = {} if cache_images else None

    def read(self, referent: Referent) -> Float[Tensor, "3 height width"]:
        """Return the network input of a referent's photograph.

        Raises:
            InputError: If the file is missing or damaged, or of another size than the index says.
        """
        if self._cache is None:
            return to_input(self._decode(referent), self.spec)
        if referent.file_name not in self._cache:
            self._cache[referent.file_name] = self._decode(referent)
        return to_input(self._cache[referent.file_name], self.spec)

    def _decode(self, referent: Referent) -> UInt8[np.ndarray, "content_height content_width 3"]:
        path = self._index.image_path(referent)
        image = read_photograph(path, is_turned=referent.is_turned)
        if (image.height, image.width) != (referent.height, referent.width):
            raise InputError(
                f"The photograph {path} is {image.height} x {image.width} (height x width), the "
                f"index says {referent.height} x {referent.width}: prepare the data set again."
            )
        return resize_photograph(image, self.spec)


@lru_cache
def _normalization(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Return factor and shift that take a byte to (byte / 255 - mean) / std."""
    deviation = torch.tensor(std).view(3, 1, 1)
    return 1 / (255 * deviation), -torch.tensor(mean).view(3, 1, 1) / deviation
