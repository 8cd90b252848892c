"""What joins the pixel decoder's input where encoders are small: no part of the paper."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tris.batch import Batch
from tris.response.response_net import ResponseNet
from tris.segmenters.hints import RESPONSE_CHANNELS, response_hints
from tris.segmenters.place_words import PlaceWords
from tris.segmenters.pyramid_decoder import resize


class Hints(nn.Module):
    """The frozen response of stage 1, and words as planes, added to every pyramid level.

    Without either it changes nothing and has no weights.

    Args:
        response: Stage 1, frozen, or None.
        place_words: Or None.
        channels: Of the pyramid's levels.
    """

    def __init__(
        self,
        response: ResponseNet | None,
        place_words: PlaceWords | None,
        channels: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.response = response
        self.place_words = place_words
        num_maps = RESPONSE_CHANNELS * (response is not None)
        num_planes = 0 if place_words is None else place_words.num_channels(num_maps)
        count = num_maps + num_planes
        self.convolutions = nn.ModuleList(
            nn.Conv2d(count, width, 3, padding=1, bias=False)
            for width in (channels if count else ())
        )

    def add_to_words(
        self, words: Float[Tensor, "expr tokens dim"], batch: Batch
    ) -> Float[Tensor, "expr tokens dim"]:
        """Return the word features, with embeddings of their own if there are place words."""
        if self.place_words is None:
            return words
        return self.place_words.add_to(words, batch.token_ids)

    def add_to_pyramid(
        self,
        pyramid: list[Float[Tensor, "expr _ _ _"]],
        batch: Batch,
    ) -> list[Float[Tensor, "expr _ _ _"]]:
        """Return the pyramid with the hints added.

        Args:
            pyramid: Finest first.
            batch: Images and sentences.
        """
        if not self.convolutions:
            return pyramid
        hints = self._hints(batch, size=pyramid[0].shape[-2:])
        return [
            features + convolution(resize(hints, features.shape[-2:]))
            for features, convolution in zip(pyramid, self.convolutions, strict=True)
        ]

    def train(self, mode: bool = True) -> "Hints":
        """Switch the mode; the frozen response network stays in evaluation."""
        super().train(mode)
        if self.response is not None:
            self.response.eval()
        return self

    def _hints(self, batch: Batch, *, size: torch.Size) -> Tensor:
        hints, maps = [], None
        if self.response is not None:
            with torch.no_grad():
                logits = self.response(batch).response_logits
            maps = resize(response_hints(logits), size)
            hints.append(maps)
        if self.place_words is not None:
            ids, mask = batch.token_ids, batch.token_mask
            hints.append(self.place_words(ids, mask, size=size, maps=maps))
        return torch.cat(hints, dim=1)
