"""What joins the pixel decoder's input where encoders are small: no part of the paper."""

from jaxtyping import Float
from torch import Tensor, nn

from tris.batch import Batch
from tris.layers.resize import resize
from tris.response.response_net import ResponseNet
from tris.segmenters.hint_inputs import HintInputs
from tris.segmenters.place_words import PlaceWords


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
        count = self._inputs.num_channels
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
        hints = self._inputs.make(batch, size=pyramid[0].shape[-2:])
        if hints is None:
            return pyramid
        return [
            features + convolution(resize(hints, features.shape[-2:]))
            for features, convolution in zip(pyramid, self.convolutions, strict=True)
        ]

    @property
    def _inputs(self) -> HintInputs:
        return HintInputs(self.response, False, self.place_words)
