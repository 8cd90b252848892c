"""Swin Transformer through transformers, one stage at a time."""

from dataclasses import dataclass

import torch
import transformers
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tris.encoders.staged import StagedBackbone
from tris.encoders.weights import fetch_weights
from tris.model_directory import load_state

_BIAS_TABLE = "relative_position_bias_table"


@dataclass(frozen=True)
class SwinConfig:
    """The defaults are Swin-B with windows of 12, as LAVT, DMMI and MABP use it.

    Attributes:
        pretrained: Name on the Hugging Face hub or folder of a transformers Swin, or "" for random
            weights.
        embed_dim: Channels of the first stage; each further stage has twice as many.
        depths: Blocks per stage.
        num_heads: Attention heads per stage.
        window_size: Side of a window, cells. Pretrained position biases of another size are
            resized, bicubic.
        drop_path_rate: Of the last block; rises linearly from 0 (released LAVT and DMMI: 0.3).
    """

    pretrained: str = "microsoft/swin-base-patch4-window12-384-in22k"
    embed_dim: int = 128
    depths: tuple[int, int, int, int] = (2, 2, 18, 2)
    num_heads: tuple[int, int, int, int] = (4, 8, 16, 32)
    window_size: int = 12
    drop_path_rate: float = 0.3

    def build(self, *, pretrained: bool = True) -> "SwinTower":
        """Make the encoder; ``pretrained=False`` leaves the weights random."""
        return SwinTower(self, load=pretrained)


SWIN_TINY = SwinConfig(
    "microsoft/swin-tiny-patch4-window7-224",
    embed_dim=96,
    depths=(2, 2, 6, 2),
    num_heads=(3, 6, 12, 24),
    window_size=7,
)


class SwinTower(StagedBackbone):
    """The patch embedding and the four stages of a Swin Transformer, without the last norm.

    Maps of any size: they are padded to whole windows inside each block, after its norm, as in the
    implementation for dense prediction; a map smaller than a window is padded, too, where
    transformers would shrink the window. Stochastic depth drops the attention of a block only
    (transformers), not its perceptron.

    Source:
        Swin Transformer (arXiv 2103.14030).
    """

    def __init__(self, config: SwinConfig, *, load: bool = True) -> None:
        super().__init__()
        self.config = config
        swin = transformers.SwinModel(_describe(config), add_pooling_layer=False)
        self.embeddings = swin.embeddings
        self.layers = swin.encoder.layers
        first = config.embed_dim
        self.channels = (first, 2 * first, 4 * first, 8 * first)
        if load and config.pretrained:
            self._load(config.pretrained)

    def stem(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> Float[Tensor, "images stem_channels h w"]:
        """Return the embedding of patches of 4 x 4 pixels."""
        tokens, size = self.embeddings(images)
        return _to_map(tokens, size)

    def stage(
        self, level: int, features: Float[Tensor, "n channels h w"]
    ) -> Float[Tensor, "n out_channels out_h out_w"]:
        """Merge patches in front of all stages but the first, then run the stage's blocks."""
        height, width = features.shape[-2:]
        tokens = features.flatten(2).transpose(1, 2)
        if level:
            tokens = self.layers[level - 1].downsample(tokens, (height, width))
            height, width = (height + 1) // 2, (width + 1) // 2
        for block in self.layers[level].blocks:
            tokens, _ = block(tokens, (height, width), always_partition=True)
        return _to_map(tokens, (height, width))

    def _load(self, source: str) -> None:
        state = fetch_weights(transformers.SwinModel, source, title="Swin", add_pooling_layer=False)
        own = self.state_dict()
        kept = {
            key.removeprefix("encoder."): weights
            for key, weights in state.items()
            if not key.startswith("layernorm.")
        }
        for key in kept.keys() & own.keys():
            if _BIAS_TABLE in key:
                kept[key] = _resize_table(kept[key], own[key])
        load_state(self, kept, source=source)


def _describe(config: SwinConfig) -> "transformers.SwinConfig":
    return transformers.SwinConfig(
        embed_dim=config.embed_dim,
        depths=config.depths,
        num_heads=config.num_heads,
        window_size=config.window_size,
        drop_path_rate=config.drop_path_rate,
    )


def _to_map(
    tokens: Float[Tensor, "n cells channels"], size: tuple[int, int]
) -> Float[Tensor, "n channels h w"]:
    features: Tensor = tokens.transpose(1, 2).unflatten(2, size)
    return features


def _resize_table(
    table: Float[Tensor, "places heads"], wanted: Tensor
) -> Float[Tensor, "new_places heads"]:
    """Bring position biases to another window; a table is a square of (2 * window - 1) places."""
    old, new = round(len(table) ** 0.5), round(len(wanted) ** 0.5)
    if old == new:
        return table
    square = table.T.reshape(1, -1, old, old)
    with torch.no_grad():
        resized = functional.interpolate(square, (new, new), mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T.contiguous()
