"""Which hints a segmenter takes beside its visual features: no part of the papers."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tris.batch import Batch
from tris.layers.resize import resize
from tris.response.response_net import ResponseNet
from tris.segmenters.hints import (
    COORDINATE_CHANNELS,
    RESPONSE_CHANNELS,
    content_shares,
    coordinates_of_content,
    response_hints,
)
from tris.segmenters.place_words import PlaceWords


class HintInputs(NamedTuple):
    """The hints that a network was built with, in the order of their channels.

    Attributes:
        response: Stage 1, frozen; what it says of an expression joins, two channels.
        has_coordinates: Whether x and y of each cell join, -1 to 1 over the photograph.
        place_words: Planes that an expression's words become join, and their products with the
            response.
    """

    response: ResponseNet | None
    has_coordinates: bool
    place_words: PlaceWords | None

    @property
    def num_channels(self) -> int:
        """How many maps there are in all."""
        num_maps = RESPONSE_CHANNELS * (self.response is not None)
        num_planes = 0 if self.place_words is None else self.place_words.num_channels(num_maps)
        return num_maps + COORDINATE_CHANNELS * self.has_coordinates + num_planes

    def make(
        self, batch: Batch, *, size: torch.Size | tuple[int, int]
    ) -> Float[Tensor, "expr hints height width"] | None:
        """Return the maps of every expression; None where there are none.

        Args:
            batch: Images and expressions.
            size: Height, width of the maps.
        """
        hints, maps = [], None
        if self.response is not None:
            with torch.no_grad():
                logits = self.response(batch).response_logits
            maps = resize(response_hints(logits), size)
            hints.append(maps)
        shares = content_shares(batch)[batch.image_index]
        if self.has_coordinates:
            hints.append(coordinates_of_content(size, shares).to(batch.images.dtype))
        if self.place_words is not None:
            ids, mask = batch.token_ids, batch.token_mask
            hints.append(self.place_words(ids, mask, size=size, maps=maps, shares=shares))
        return torch.cat(hints, dim=1) if hints else None
