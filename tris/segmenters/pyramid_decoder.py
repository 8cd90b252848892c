"""The four-level decoder of the TRIS segmentation network."""

from typing import cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from tris.layers.conv_block import ConvBlock
from tris.layers.resize import resize
from tris.layers.selection import select_rows

NUM_LEVELS = 4


class PyramidDecoder(nn.Module):
    """From coarse to fine: convolve, upsample to the next level's size, add that level.

    Every level has a head, so that each can be supervised; only the finest one is the prediction.
    Upsampling goes by the size of the next level, so any pyramid fits.

    Args:
        visual_channels: Channels of the four input levels, finest first.
        decoder_channels: Channels of the four levels inside, finest first.
        hint_channels: Channels of further maps that join every level; 0 = the published network.

    Source:
        TRIS (arXiv 2308.14575), section 3.4; layers as in the released implementation.
    """

    def __init__(
        self,
        visual_channels: tuple[int, ...],
        decoder_channels: tuple[int, int, int, int],
        *,
        hint_channels: int = 0,
    ) -> None:
        super().__init__()
        narrow = decoder_channels[0] // 2
        outputs = (narrow, *decoder_channels[:-1])
        head_widths = (narrow, narrow, 2 * narrow, 2 * narrow)
        self.laterals = _conv_blocks(visual_channels, decoder_channels)
        self.blocks = _conv_blocks(decoder_channels, outputs)
        self.heads = nn.ModuleList(
            nn.Sequential(ConvBlock(before, width), nn.Conv2d(width, 1, 1, bias=False))
            for before, width in zip(outputs, head_widths, strict=True)
        )
        self.hint_convolutions = nn.ModuleList(
            nn.Conv2d(hint_channels, channels, 3, padding=1, bias=False)
            for channels in (decoder_channels if hint_channels else ())
        )

    def forward(
        self,
        finest: Float[Tensor, "images channels h w"],
        fused: list[Tensor],
        *,
        image_index: Int[Tensor, "expr"],
        hints: Float[Tensor, "expr hints h w"] | None = None,
    ) -> list[Tensor]:
        """Return the logits of each level's head, at the level's own resolution, finest first.

        Args:
            finest: The finest level knows no words: one map per image.
            fused: The three coarser levels, finest first, one map per expression.
            image_index: Row of ``finest`` that the expression is about.
            hints: Maps of ``hint_channels`` channels, resized to each level; None where there are
                no hint channels.

        Returns:
            Four tensors ``(expr, 1, h, w)`` in training, in evaluation only the first: the others
            serve deep supervision alone.
        """
        laterals = cast(list[ConvBlock], list(self.laterals))
        convolved = [select_rows(laterals[0].convolution(finest), image_index)]
        convolved += [
            lateral.convolution(features)
            for lateral, features in zip(laterals[1:], fused, strict=True)
        ]
        levels = [
            laterals[level].finish(self._with_hints(features, hints, level=level))
            for level, features in enumerate(convolved)
        ]
        features, logits = levels[-1], []
        for level in range(NUM_LEVELS - 1, 0, -1):
            upsampled = resize(self.blocks[level](features), levels[level - 1].shape[-2:])
            features = upsampled + levels[level - 1]
            if self.training:
                logits.append(self.heads[level](upsampled))
        logits.append(self.heads[0](self.blocks[0](features)))
        return logits[::-1]

    def _with_hints(self, features: Tensor, hints: Tensor | None, *, level: int) -> Tensor:
        if hints is None:
            return features
        resized = resize(hints, features.shape[-2:])
        projected: Tensor = self.hint_convolutions[level](resized)
        return features + projected


def _conv_blocks(before: tuple[int, ...], after: tuple[int, ...]) -> nn.ModuleList:
    return nn.ModuleList(ConvBlock(*channels) for channels in zip(before, after, strict=True))
