"""Maps that may join a decoder's input beside the visual features (not in the TRIS paper)."""

import torch
from jaxtyping import Float
from torch import Tensor

from tris.batch import Batch

RESPONSE_CHANNELS = 2
COORDINATE_CHANNELS = 2


def response_hints(
    response_logits: Float[Tensor, "expr h w"],
) -> Float[Tensor, "expr 2 h w"]:
    """Return what stage 1 says of each expression: how sure it is, and where it looks.

    The sigmoid keeps the absolute level (nothing may fit); the map standardised to mean 0 and
    deviation 1 keeps the place even where every logit is far below zero.
    """
    logits = response_logits.float()
    mean = logits.mean(dim=(1, 2), keepdim=True)
    deviation = logits.std(dim=(1, 2), keepdim=True, correction=0)
    return torch.stack([logits.sigmoid(), (logits - mean) / (deviation + 1e-6)], dim=1)


def content_shares(batch: Batch) -> Float[Tensor, "images 2"]:
    """Return which part of the network's height and width shows each photograph, in float32."""
    canvas = batch.content_size.new_tensor(batch.images.shape[-2:])
    return (batch.content_size / canvas).float()


def coordinates_of_content(
    size: torch.Size | tuple[int, int], shares: Float[Tensor, "rows 2"]
) -> Float[Tensor, "rows 2 height width"]:
    """Return x and y of every cell's centre, from -1 to 1 over the photograph, more in the padding.

    Args:
        size: Height, width.
        shares: Of `content_shares`; the photograph is at the top left.
    """
    stretch = 1 / shares.flip(-1)[..., None, None]
    return coordinate_planes(size, like=shares) * stretch + (stretch - 1)


def coordinate_planes(
    size: torch.Size | tuple[int, int], *, like: Tensor
) -> Float[Tensor, "2 height width"]:
    """Return x and y of every cell's centre, from -1 (left, top border) to 1 (right, bottom).

    Args:
        size: Height, width.
        like: Gives device and floating type.
    """
    height, width = size
    x = (2 * torch.arange(width, device=like.device, dtype=like.dtype) + 1) / width - 1
    y = (2 * torch.arange(height, device=like.device, dtype=like.dtype) + 1) / height - 1
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
