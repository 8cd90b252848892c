"""One tower each of a CLIP, as HARIS reads it."""

import copy

import open_clip
from jaxtyping import Float, Int
from torch import Tensor, nn

from tris.encoders.clip import ClipEncoder
from tris.segmenters.pyramid_decoder import resize

LARGEST_STRIDE = 32
_TEXT_PARTS = ("transformer", "token_embedding", "ln_final")
_TEXT_WEIGHTS = ("positional_embedding", "text_projection", "logit_scale", "attn_mask")


class ClipTextTower(nn.Module):
    """Words and sentence from CLIP's text tower; the image tower is dropped."""

    def __init__(self, clip: ClipEncoder) -> None:
        super().__init__()
        self.clip = copy.deepcopy(clip)
        self.clip.clip.visual = nn.Identity()
        del self.clip.clip.logit_scale
        self.word_dim, self.sentence_dim = clip.word_dim, clip.embed_dim

    def forward(
        self, token_ids: Int[Tensor, "expr tokens"]
    ) -> tuple[Float[Tensor, "expr tokens dim"], Float[Tensor, "expr embed"]]:
        """Return one vector per token, and the sentence's place in the joint embedding."""
        return self.clip.encode_words(token_ids)


class ClipImageTower(nn.Module):
    """Three levels of CLIP's image tower at one size; text tower and pooling are dropped.

    Attributes:
        channels: Of the shallow, middle and deep map: levels c2, c3 and c4.
        multiple: Sides of images are best multiples of this, pixels.
    """

    def __init__(self, clip: ClipEncoder) -> None:
        super().__init__()
        self.clip = copy.deepcopy(clip)
        for name in (*_TEXT_PARTS, *_TEXT_WEIGHTS):
            delattr(self.clip.clip, name)
        visual = self.clip.clip.visual
        if isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
            visual.attnpool = nn.Identity()
        else:
            visual.head = nn.Identity()
            visual.trunk.pooling = nn.Identity()
        self.channels = clip.visual_channels[1:]
        self.multiple = LARGEST_STRIDE

    def forward(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> list[Float[Tensor, "images _ h w"]]:
        """Return the maps at the size of the middle one (stride 16; 8 for the small tower)."""
        _, *levels = self.clip.encode_pyramid(images)
        size = levels[1].shape[-2:]
        return [level if level.shape[-2:] == size else resize(level, size) for level in levels]
