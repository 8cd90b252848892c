"""The image tower of the small CLIP that is trained where no pretrained CLIP can be had."""

import math
from typing import Any, NamedTuple

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional


class Stage(NamedTuple):
    """One residual block.

    Attributes:
        channels: Of its output.
        stride: Of its first convolution.
        kernels: Of its two convolutions.
    """

    channels: int
    stride: int
    kernels: tuple[int, int]


STEM_CHANNELS, STEM_STRIDE, NUM_HEADS = 32, 4, 4
STAGES = (Stage(32, 1, (3, 3)), Stage(64, 2, (4, 3)), Stage(96, 1, (3, 1)), Stage(128, 1, (1, 1)))
"""Total strides 4, 8, 8, 8 keep 12 x 12 cells of a 96-pixel image, fine enough to tell small
shapes. A cell sees 68 pixels: a tower that sees the whole image answers in the wrong place."""


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm, and a shortcut.

    Kernels are even where the stride is: the centre of a cell then is the centre of the pixels it
    stands for, and a map that is scaled up lies on the image, not half a cell beside it.
    """

    def __init__(self, before: int, stage: Stage) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            _convolution(before, stage.channels, stage.kernels[0], stride=stage.stride),
            nn.BatchNorm2d(stage.channels),
            nn.ReLU(inplace=True),
            _convolution(stage.channels, stage.channels, stage.kernels[1]),
            nn.BatchNorm2d(stage.channels),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(stage.stride) if stage.stride > 1 else nn.Identity(),
            nn.Conv2d(before, stage.channels, 1, bias=False),
            nn.BatchNorm2d(stage.channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's map."""
        return functional.relu(self.convolutions(features) + self.shortcut(features))


class AttentionPooling(nn.Module):
    """CLIP's pooling without position embedding: the mean of the map asks, every cell answers.

    There is a single query, so no cell is projected: the query passes the keys' matrix instead, and
    the cells' weighted mean that of the values.

    Source:
        CLIP (arXiv 2103.00020), section 2.4.
    """

    def __init__(self, channels: int, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return one vector per map."""
        cells = features.flatten(2).transpose(1, 2)
        query = self._by_head(self.query(cells.mean(dim=1)))
        key_matrix, key_bias = self._by_head(self.key.weight.T), self._by_head(self.key.bias)
        cell_query = torch.einsum("bhd,chd->bhc", query, key_matrix)
        scores = cell_query @ cells.transpose(1, 2)
        # The same for all cells, so no weight depends on it; but every parameter needs a gradient.
        scores = scores + (query * key_bias).sum(dim=-1, keepdim=True)
        attention = (scores / math.sqrt(query.shape[-1])).softmax(dim=-1)
        value_matrix = self._by_head(self.value.weight.T)
        pooled = torch.einsum("bhc,chd->bhd", attention @ cells, value_matrix)
        vector: Tensor = self.output(pooled.flatten(1) + self.value.bias)
        return vector

    def _by_head(self, rows: Tensor) -> Tensor:
        by_head: Tensor = rows.unflatten(-1, (self.num_heads, -1))
        return by_head


class SmallTower(nn.Module):
    """A stem and four residual blocks, with the interface that open_clip wants of a timm model.

    Attributes:
        feature_info: Channels and reduction of the stem and of each stage.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, STEM_CHANNELS, 8, stride=STEM_STRIDE, padding=2, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
            nn.ReLU(inplace=True),
        )
        self.feature_info = [{"num_chs": STEM_CHANNELS, "reduction": STEM_STRIDE}]
        self.stages = nn.ModuleList()
        for stage in STAGES:
            before = self.feature_info[-1]
            self.stages.append(ResidualBlock(before["num_chs"], stage))
            self.feature_info.append(
                {"num_chs": stage.channels, "reduction": before["reduction"] * stage.stride}
            )
        self.pooling = AttentionPooling(STAGES[-1].channels, dim, num_heads=NUM_HEADS)

    def forward(self, images: Tensor) -> Tensor:
        """Return one embedding per image."""
        features = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        embedding: Tensor = self.pooling(features)
        return embedding

    def forward_intermediates(
        self,
        images: Tensor,
        *,
        indices: list[int],
        intermediates_only: bool = False,
        **_: Any,  # noqa: ANN401 - timm's further switches, which mean nothing here
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the maps of the stem (0) and the stages (1-4) that ``indices`` names."""
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        chosen = [maps[index] for index in indices]
        return chosen if intermediates_only else (maps[-1], chosen)


def _convolution(before: int, after: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    padding = (kernel - stride) // 2 if stride > 1 else kernel // 2
    return nn.Conv2d(before, after, kernel, stride=stride, padding=padding, bias=False)


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def tris_small_resnet(
    pretrained: bool = False,
    num_classes: int = 128,
    **_: Any,  # noqa: ANN401 - what timm's factory passes to every model
) -> SmallTower:
    """Return the small tower with random weights; open_clip finds it by this name.

    ``num_classes`` is the width of the joint embedding.

    Raises:
        ValueError: If pretrained weights are asked for: there are none.
    """
    if pretrained:
        raise ValueError("tris_small_resnet has no pretrained weights.")
    return SmallTower(num_classes)
