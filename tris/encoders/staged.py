"""Encoders that a network can reach into: vision stage by stage, text word by word."""

import abc

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

NUM_STAGES = 4


class StagedBackbone(nn.Module, abc.ABC):
    """A vision encoder of four stages, run one at a time.

    A network that lets language into the encoder (LAVT, DMMI, MABP) runs `stem`, then `stage` 0 to
    3, and hands each stage what it made of the output of the one before.

    Attributes:
        channels: Of the four stages' outputs.
    """

    channels: tuple[int, int, int, int]

    @abc.abstractmethod
    def stem(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> Float[Tensor, "images stem_channels h w"]:
        """Return what stage 0 takes."""

    @abc.abstractmethod
    def stage(
        self, level: int, features: Float[Tensor, "n channels h w"]
    ) -> Float[Tensor, "n out_channels out_h out_w"]:
        """Return the output of one stage.

        Args:
            level: 0 to 3.
            features: The output of `stem` for stage 0; otherwise the output of the stage before,
                or what language made of it. The down-sampling between two stages belongs to the
                later one.
        """

    def encode_pyramid(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> list[Float[Tensor, "images _ _ _"]]:
        """Return the outputs of all stages, finest first, with nothing in between."""
        features, pyramid = self.stem(images), []
        for level in range(NUM_STAGES):
            features = self.stage(level, features)
            pyramid.append(features)
        return pyramid


class StackedBackbone(StagedBackbone):
    """A backbone whose stem and stages are modules, each applied to the map before.

    Attributes:
        stem_layers: Down to a quarter of the image's size.
        stages: Four.
    """

    stem_layers: nn.Module
    stages: nn.ModuleList

    def stem(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> Float[Tensor, "images stem_channels h w"]:
        """Return the map of the stem, a quarter of the size."""
        features: Tensor = self.stem_layers(images)
        return features

    def stage(
        self, level: int, features: Float[Tensor, "n channels h w"]
    ) -> Float[Tensor, "n out_channels out_h out_w"]:
        """Run the blocks of one stage."""
        output: Tensor = self.stages[level](features)
        return output


class WordEncoder(nn.Module, abc.ABC):
    """A text encoder that gives one vector per token.

    Attributes:
        word_dim: Length of a vector.
    """

    word_dim: int

    @abc.abstractmethod
    def forward(
        self, token_ids: Int[Tensor, "expr tokens"], token_mask: Bool[Tensor, "expr tokens"]
    ) -> Float[Tensor, "expr tokens dim"]:
        """Return the features of every token, padding included.

        Args:
            token_ids: As the network's tokenizer makes them.
            token_mask: True = real token.
        """
