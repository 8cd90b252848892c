"""What was computed once per image, for every expression about it."""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def select_rows(
    per_image: Shaped[Tensor, "images *dims"], image_index: Int[Tensor, "expr"]
) -> Shaped[Tensor, "expr *dims"]:
    """Return ``per_image[image_index]``; the layout in memory stays.

    Same values, same gradient; but on a processor the gradient of indexing goes element by element,
    which takes several times as long as that of whole rows, taken as they lie in memory.

    Args:
        per_image: One row per image.
        image_index: Row of each expression's image, from 0 on.
    """
    if per_image.device.type != "cpu":
        return per_image[image_index]
    is_channels_last = (
        per_image.ndim == 4
        and per_image.is_contiguous(memory_format=torch.channels_last)
        and not per_image.is_contiguous()
    )
    if is_channels_last:
        rows = per_image.permute(0, 2, 3, 1).index_select(0, image_index)
        return rows.permute(0, 3, 1, 2)
    return per_image.index_select(0, image_index)
