"""A vision encoder that reads the sentence after each stage, as in LAVT."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tris.encoders.staged import NUM_STAGES, StagedBackbone
from tris.layers.language_fusion import LanguageFusion, LanguageGate
from tris.layers.selection import select_rows


class LanguageFusedEncoder(nn.Module):
    """Four stages; what a stage sees is fused with the words, and part of it goes to the next.

    The first stage knows no words: it runs once per image. From the first fusion on, every
    expression has maps of its own.

    Args:
        backbone: Four stages.
        word_dim: Channels of the word features.

    Source:
        LAVT (arXiv 2112.02244), section 3; MABP (arXiv 2405.15169), section III-A.
    """

    def __init__(self, backbone: StagedBackbone, word_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.channels
        self.fusions = nn.ModuleList(LanguageFusion(width, word_dim) for width in channels)
        self.gates = nn.ModuleList(LanguageGate(width) for width in channels[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in channels)

    def forward(
        self,
        images: Float[Tensor, "images 3 height width"],
        word_features: Float[Tensor, "expr tokens dim"],
        token_mask: Bool[Tensor, "expr tokens"],
        *,
        image_index: Int[Tensor, "expr"],
    ) -> list[Float[Tensor, "expr _ _ _"]]:
        """Return one pyramid per expression, finest first."""
        features = self.backbone.stage(0, self.backbone.stem(images))
        map_index: Tensor | None = image_index
        pyramid = []
        for level in range(NUM_STAGES):
            fused = self.fusions[level](features, word_features, token_mask, map_index=map_index)
            channels_last = self.norms[level](fused.permute(0, 2, 3, 1))
            pyramid.append(channels_last.permute(0, 3, 1, 2))
            if level + 1 < NUM_STAGES:
                features = features if map_index is None else select_rows(features, map_index)
                map_index = None
                gated = features + self.gates[level](fused)
                features = self.backbone.stage(level + 1, gated)
        return pyramid
