"""Bilinear resizing of maps."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def resize(
    features: Float[Tensor, "batch channels _ _"], size: torch.Size | tuple[int, int]
) -> Float[Tensor, "batch channels _ _"]:
    """Resize bilinearly; corners of pixels, not their centres, are aligned with the border.

    Of finite maps it is what PyTorch's kernel gives, up to rounding. Where a gradient is wanted of
    maps of one channel on a processor, they are multiplied by the matrices of the interpolation:
    the kernel's gradient goes through such maps pixel by pixel. (An infinite pixel would make
    others NaN.)
    """
    height, width = size
    wants_gradient = features.requires_grad and torch.is_grad_enabled()
    if features.shape[1] > 1 or features.device.type != "cpu" or not wants_gradient:
        return functional.interpolate(
            features, size=(height, width), mode="bilinear", align_corners=False
        )
    exact = features.to(torch.promote_types(features.dtype, torch.float32))
    with torch.autocast("cpu", enabled=False):
        rows, columns = (
            _interpolation(before, after, like=exact)
            for before, after in zip(exact.shape[-2:], (height, width), strict=True)
        )
        resized: Tensor = rows.T @ exact @ columns
    return resized.to(features.dtype)


def _interpolation(
    before: int, after: int, *, like: Float[Tensor, "..."]
) -> Float[Tensor, "before after"]:
    """Return the matrix by which a row of so many pixels becomes one of so many others."""
    pixels = torch.eye(before, dtype=like.dtype, device=like.device)
    weights = functional.interpolate(pixels[None], size=after, mode="linear", align_corners=False)
    return weights[0]
