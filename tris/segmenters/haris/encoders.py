"""One tower each of a CLIP, as HARIS reads it."""

import copy

import open_clip
from jaxtyping import Float, Int
from torch import Tensor, nn

from tris.encoders.clip import ClipEncoder
from tris.errors import InputError
from tris.layers.resize import resize

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

    Args:
        clip: Is copied.
        levels: Which of c1..c4 are the shallow, the middle and the deep map.
        grid_level: The level whose size all three get, by bilinear resizing.

    Attributes:
        channels: Of the three maps.
        multiple: Sides of images are best multiples of this, pixels.

    Raises:
        InputError: If there are no such levels.
    """

    def __init__(self, clip: ClipEncoder, *, levels: tuple[int, int, int], grid_level: int) -> None:
        super().__init__()
        if not clip.visual_channels:
            raise InputError(
                f"{clip.config.architecture} has no pyramid to take three levels from: choose a "
                "ResNet such as RN50-quickgelu, or image_encoder=sam."
            )
        if not {*levels, grid_level} <= {1, 2, 3, 4}:
            raise InputError(
                f"CLIP's image tower has levels 1 to 4, not {sorted({*levels, grid_level})}: "
                "choose three of them in clip_levels and one in clip_grid_level."
            )
        self.clip = copy.deepcopy(clip)
        for name in (*_TEXT_PARTS, *_TEXT_WEIGHTS):
            delattr(self.clip.clip, name)
        visual = self.clip.clip.visual
        if isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
            visual.attnpool = nn.Identity()
        else:
            visual.head = nn.Identity()
            visual.trunk.pooling = nn.Identity()
        self.levels, self.grid_level = levels, grid_level
        shallow, middle, deep = (clip.visual_channels[level - 1] for level in levels)
        self.channels = (shallow, middle, deep)
        self.multiple = LARGEST_STRIDE

    def forward(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> list[Float[Tensor, "images _ h w"]]:
        """Return the shallow, the middle and the deep map, all at the size of the grid level."""
        pyramid = self.clip.encode_pyramid(images)
        size = pyramid[self.grid_level - 1].shape[-2:]
        chosen = [pyramid[level - 1] for level in self.levels]
        return [each if each.shape[-2:] == size else resize(each, size) for each in chosen]
