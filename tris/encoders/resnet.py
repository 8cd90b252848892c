"""ResNet through timm, one stage at a time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from torch import nn

from tris.encoders.staged import StackedBackbone
from tris.encoders.weights import read_weights
from tris.errors import InputError, first_line
from tris.model_directory import load_state


@dataclass(frozen=True)
class ResNetConfig:
    """The defaults are torchvision's ResNet-101.

    Attributes:
        architecture: A ResNet that timm knows.
        pretrained: A timm tag of that architecture (``tv_in1k``), a safetensors file of its
            weights, or "" for random weights.
    """

    architecture: str = "resnet101"
    pretrained: str = "tv_in1k"

    def build(self, *, pretrained: bool = True) -> "ResNetTower":
        """Make the encoder; ``pretrained=False`` leaves the weights random."""
        return ResNetTower(self, load=pretrained)


class ResNetTower(StackedBackbone):
    """Stem and four stages; strides 4, 8, 16, 32.

    Source:
        Deep residual learning (arXiv 1512.03385), the variant with the stride in the 3 x 3
        convolution.
    """

    def __init__(self, config: ResNetConfig, *, load: bool = True) -> None:
        super().__init__()
        self.config = config
        resnet = _create(config, load=load)
        self.stem_layers = nn.Sequential(resnet.conv1, resnet.bn1, resnet.act1, resnet.maxpool)
        self.stages = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4])
        self.channels = tuple(entry["num_chs"] for entry in resnet.feature_info[1:])


def _create(config: ResNetConfig, *, load: bool) -> Any:  # noqa: ANN401 - timm is untyped
    architecture, source = config.architecture, config.pretrained if load else ""
    if not architecture.startswith("resnet") or architecture not in timm.list_models("resnet*"):
        raise InputError(
            f"timm knows no ResNet {architecture!r}; among others it knows resnet50 and resnet101."
        )
    if not source or Path(source).suffix == ".safetensors":
        resnet = timm.create_model(architecture, pretrained=False)
        if source:
            if not Path(source).is_file():
                raise InputError(f"There is no file {source} with the weights of a ResNet.")
            load_state(resnet, read_weights(Path(source)), source=source)
        return resnet
    try:
        return timm.create_model(f"{architecture}.{source}", pretrained=True)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"The weights {source!r} of {architecture} could not be had ({first_line(error)}); "
            "download them once, or name a safetensors file in `pretrained`."
        ) from error
