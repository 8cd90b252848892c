"""The towers of a CLIP, one stage and one word at a time."""

from typing import Any

from jaxtyping import Bool, Float, Int
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from tris.encoders.clip import ClipEncoder
from tris.encoders.small_tower import SmallTower
from tris.encoders.staged import NUM_STAGES, StackedBackbone, WordEncoder
from tris.errors import InputError


class ClipTower(StackedBackbone):
    """Stem and stages of CLIP's image tower, without its pooling.

    Takes over (does not copy) the modules of the CLIP that it is made from.
    """

    def __init__(self, clip: ClipEncoder) -> None:
        """Take the tower out of a CLIP.

        Raises:
            InputError: If the image tower has no stages (a vision transformer).
        """
        super().__init__()
        visual = clip.clip.visual
        trunk = getattr(visual, "trunk", None)
        if isinstance(visual, ModifiedResNet):
            self.stem_layers, stages = _stem_of(visual), _stages_of(visual)
        elif isinstance(trunk, SmallTower):
            self.stem_layers, stages = trunk.stem, list(trunk.stages)
        else:
            raise InputError(
                f"The image tower of {clip.config.architecture} has no four stages; name a CLIP "
                "with a ResNet, such as RN50-quickgelu, or tris-small."
            )
        self.stages = nn.ModuleList(stages)
        first, second, third, fourth = clip.visual_channels
        self.channels = (first, second, third, fourth)


class ClipWords(WordEncoder):
    """CLIP's text tower up to its last norm, not projected.

    Takes over (does not copy) the modules of the CLIP that it is made from. The tower is causal: a
    word knows what stands before it.
    """

    causal_mask: Tensor

    def __init__(self, clip: ClipEncoder) -> None:
        super().__init__()
        tower: Any = clip.clip
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.transformer = tower.transformer
        self.ln_final = tower.ln_final
        self.register_buffer("causal_mask", tower.attn_mask, persistent=False)
        self.word_dim = clip.word_dim

    def forward(
        self, token_ids: Int[Tensor, "expr tokens"], token_mask: Bool[Tensor, "expr tokens"]
    ) -> Float[Tensor, "expr tokens dim"]:
        """Return the features of every token; a causal tower needs no mask."""
        length = token_ids.shape[1]
        words = self.token_embedding(token_ids) + self.positional_embedding[:length]
        words = self.transformer(words, attn_mask=self.causal_mask[:length, :length])
        features: Tensor = self.ln_final(words)
        return features


def _stem_of(visual: ModifiedResNet) -> nn.Sequential:
    names = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3", "avgpool")
    return nn.Sequential(*(getattr(visual, name) for name in names))


def _stages_of(visual: ModifiedResNet) -> list[nn.Module]:
    return [getattr(visual, f"layer{number + 1}") for number in range(NUM_STAGES)]
