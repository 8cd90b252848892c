"""The image tower of the small CLIP that is trained where no pretrained CLIP can be had."""

from typing import Any

from timm.layers import create_conv2d
from timm.models import register_model
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

STEM_CHANNELS = 24
STAGES = ((32, 2), (64, 2), (96, 1), (128, 1))
"""Channels and stride: total strides 4, 8, 8, 8 keep 12 x 12 cells of a 96-pixel image, fine
enough to tell small shapes."""


class SmallTower(nn.Module):
    """A stem and four residual blocks, with the interface that open_clip wants of a timm model.

    Attributes:
        num_features: Channels of the last stage.
        default_cfg: timm's description; the pooling reads the map size from it.
        feature_info: Channels and reduction of the stem and of each stage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            create_conv2d(3, STEM_CHANNELS, 3, stride=2),
            nn.BatchNorm2d(STEM_CHANNELS),
            nn.ReLU(inplace=True),
        )
        self.feature_info = [{"num_chs": STEM_CHANNELS, "reduction": 2}]
        self.stages = nn.ModuleList()
        for channels, stride in STAGES:
            before = self.feature_info[-1]
            self.stages.append(_residual_block(before["num_chs"], channels, stride))
            self.feature_info.append(
                {"num_chs": channels, "reduction": before["reduction"] * stride}
            )
        self.num_features = STAGES[-1][0]
        self.default_cfg = {"pool_size": (12, 12), "input_size": (3, 96, 96)}

    def reset_classifier(self, num_classes: int, global_pool: str = "") -> None:
        """Accept open_clip's request to have no classifier and no pooling: there are none."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the last feature map."""
        features: Tensor = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        return features

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


@register_model  # type: ignore[untyped-decorator]  # timm is untyped
def tris_small_resnet(
    pretrained: bool = False,
    **_: Any,  # noqa: ANN401 - what timm's factory passes to every model
) -> SmallTower:
    """Return the small tower with random weights; open_clip finds it by this name.

    Raises:
        ValueError: If pretrained weights are asked for: there are none.
    """
    if pretrained:
        raise ValueError("tris_small_resnet has no pretrained weights.")
    return SmallTower()


def _residual_block(before: int, channels: int, stride: int) -> BasicBlock:
    if before == channels and stride == 1:
        return BasicBlock(channels, channels)
    shortcut = nn.Sequential(
        nn.Conv2d(before, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )
    return BasicBlock(before, channels, stride=stride, downsample=shortcut)
