"""How a HARIS network is described."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import open_clip

from tris.batch import InputSpec, TokenizerConfig
from tris.encoders.clip import ClipConfig
from tris.encoders.sam import SamEncoderConfig
from tris.errors import InputError
from tris.response.response_net import ResponseNetConfig

if TYPE_CHECKING:
    from tris.segmenters.haris.network import HarisNet

PUBLIC_SAMS = frozenset(f"facebook/sam-vit-{size}" for size in ("huge", "large", "base"))
"""What SAM's authors put on the hub: such a name means the same weights for everybody."""


@dataclass(frozen=True)
class HarisConfig:
    """The defaults are the paper's, as far as it says; docs/fidelity.md lists what it leaves open.

    Attributes:
        image_encoder: ``sam`` = SAM's (paper); ``clip`` = the image tower of ``clip``, which stands
            in for it where there is no pretrained SAM.
        sam: Read with ``image_encoder="sam"`` only.
        clip: Its text tower is the text encoder.
        clip_levels: With ``image_encoder="clip"``: levels of its pyramid (1 = finest) that are the
            shallow, the middle and the deep map.
        clip_grid_level: The level whose size all three get.
        input_spec: What the network is fed; SAM was trained on 1024 padded pixels.
        stage1_directory: Model directory of the stage-1 network, for the two switches below.
        starts_from_stage1: Whether CLIP and the tokenizer are those that stage 1 trained.
        has_response_input: Whether the frozen response of stage 1 to the expression joins the
            first block's visual tokens (paper: no).
        response: Description of that stage-1 network; filled in from ``stage1_directory``.
        frozen_weights: ``named`` = weights with a public name (SAM's three on the hub, open_clip's
            tags) are not stored with the network, others are; ``stored`` = all are;
            ``left_out`` = none are, whoever loads the network needs the same source again.
        cache_frozen_features: Keep the image encoder's maps on disk while training; the run says
            where.
        image_encoder_trainable: Let the image tower of CLIP learn (paper: frozen).
        encoder_learning_rate_scale: Factor on its learning rate then.
        dim: C, channels of every map and token.
        decoder: Who asks in the Transformer decoder: ``words`` = query token and words ask the
            pixels (the paper's text); ``pixels`` = query token and pixels ask the words
            (equation 5 as printed); ``product`` = no Transformer, features times the mean word
            (Table II, #2).
        decoder_layers: Of the Transformer.
        decoder_heads: Attention heads.
        decoder_mlp_dim: Inner width of its perceptrons.
        dropout: In the decoder, while training.
        block: ``human_like``, or ``cross_attention`` (Table II, #3).
        has_feedback: Whether language-weighted attention runs a second round (Table III, #5).
        has_vision_weighting: Whether words gather pixels (Table III, #6).
        has_language_weighting: Whether pixels gather words (Table III, #7).
        has_hierarchy: Whether three levels are fused, or the deep one is read alone (Table II, #1).
        pixel_weights: How words gather pixels: ``sum`` = by the transposed attention
            (equation 2); ``mean`` = the same weights, brought to a sum of one per word.
        has_coordinate_input: Whether x and y of each cell join the visual features (paper: no).
        has_place_words: Whether words get embeddings of their own, and become planes that join the
            first block's visual tokens (paper: no); see `PlaceWords`.
        focal_alpha: Weight of foreground pixels in the focal loss.
        focal_gamma: How little pixels count that are right already.
        focal_weight: Factor on the focal loss (equation 6: 1).
        dice_weight: Factor on the dice loss (equation 6: 1).
    """

    image_encoder: Literal["sam", "clip"] = "sam"
    sam: SamEncoderConfig = field(default_factory=SamEncoderConfig)
    clip: ClipConfig = field(default_factory=lambda: ClipConfig("ViT-B-16-quickgelu", "openai"))
    clip_levels: tuple[int, int, int] = (2, 3, 4)
    clip_grid_level: int = 3
    input_spec: InputSpec = field(
        default_factory=lambda: InputSpec(
            image_size=(1024, 1024), resize="pad", tokenizer=TokenizerConfig(context_length=17)
        )
    )
    stage1_directory: str = ""
    starts_from_stage1: bool = False
    has_response_input: bool = False
    response: ResponseNetConfig | None = None
    frozen_weights: Literal["named", "stored", "left_out"] = "named"
    cache_frozen_features: bool = False
    image_encoder_trainable: bool = False
    encoder_learning_rate_scale: float = 0.1
    dim: int = 256
    decoder: Literal["words", "pixels", "product"] = "words"
    decoder_layers: int = 3
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    dropout: float = 0.1
    block: Literal["human_like", "cross_attention"] = "human_like"
    has_feedback: bool = True
    has_vision_weighting: bool = True
    has_language_weighting: bool = True
    has_hierarchy: bool = True
    pixel_weights: Literal["sum", "mean"] = "sum"
    has_coordinate_input: bool = False
    has_place_words: bool = False
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    focal_weight: float = 1.0
    dice_weight: float = 1.0

    def build(self, *, pretrained: bool = True) -> "HarisNet":
        """Make the network; ``pretrained=False`` skips weights that a file will replace.

        Raises:
            InputError: If the settings contradict each other, or weights cannot be had.
        """
        from tris.segmenters.haris.network import HarisNet

        self.check()
        return HarisNet(self, load=pretrained)

    @property
    def leaves_out_sam(self) -> bool:
        """Whether SAM's weights are not stored with the network."""
        return self._leaves_out(self.sam.pretrained in PUBLIC_SAMS)

    @property
    def leaves_out_clip(self) -> bool:
        """Whether the weights of CLIP's frozen towers are not stored with the network."""
        tags = open_clip.list_pretrained_tags_by_model(self.clip.architecture)
        return self._leaves_out(not self.starts_from_stage1 and self.clip.pretrained in tags)

    def check(self) -> None:
        """Make sure that the settings go together.

        Raises:
            InputError: Says which do not.
        """
        if self.image_encoder_trainable and self.image_encoder == "sam":
            raise InputError("SAM stays frozen: image_encoder_trainable needs image_encoder=clip.")
        if self.image_encoder_trainable and self.cache_frozen_features:
            raise InputError(
                "Features of an encoder that learns cannot be cached: choose one of "
                "image_encoder_trainable and cache_frozen_features."
            )
        uses_sam = self.image_encoder == "sam"
        has_sources = not self.starts_from_stage1 and bool(self.clip.pretrained)
        if self.frozen_weights == "left_out" and not (
            has_sources and (self.sam.pretrained or not uses_sam)
        ):
            raise InputError(
                "Weights that are random, or stage 1's, cannot be had again by name: choose "
                "frozen_weights=named or =stored."
            )

    def _leaves_out(self, has_public_name: bool) -> bool:
        return {"named": has_public_name, "stored": False, "left_out": True}[self.frozen_weights]
