"""What describes a MABP network."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tris.batch import InputSpec, TokenizerConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.mabp.decoder import DecoderConfig
from tris.segmenters.mabp.losses import LossConfig
from tris.segmenters.mabp.pixel_decoder import PixelDecoderConfig

if TYPE_CHECKING:
    from tris.segmenters.mabp.network import Mabp

BERT_INPUT = InputSpec(
    image_size=(480, 480),
    tokenizer=TokenizerConfig(kind="bert", context_length=20, keep_end_token=False),
)
"""480 x 480 pixels (section IV-A), 20 word pieces; long sentences are cut blindly, as released."""


@dataclass(frozen=True)
class MabpConfig:
    """The defaults are the released network.

    Attributes:
        encoder: Vision and text encoder.
        input_spec: What the network is fed; the decoder's size depends on its number of tokens.
        stage1_directory: Model directory of the stage-1 network, for the two switches below.
        starts_from_stage1: Whether both encoders, and the tokenizer, are those that stage 1
            trained; False = as ``encoder`` says (paper).
        has_response_input: Whether the frozen response of stage 1 to the expression joins the
            pixel decoder's input (paper: no).
        response: Description of that stage-1 network; filled in from ``stage1_directory``.
        has_place_words: Whether words get embeddings of their own, and become planes that join the
            pixel decoder's input (paper: no); see `PlaceWords`.
        pixel_decoder: Sizes of the deformable pixel decoder.
        decoder: Sizes and ablations of the query decoder.
        losses: Weights of all losses.
        no_target_rule: Which head's verdict counts: ``any`` (released), ``first`` (which the paper
            reports, by a slip its authors name) or ``last``.
        encoder_learning_rate_scale: Factor on the learning rate of both encoders (released: 1).
    """

    encoder: VisionLanguageConfig = field(default_factory=VisionLanguageConfig)
    input_spec: InputSpec = BERT_INPUT
    stage1_directory: str = ""
    starts_from_stage1: bool = False
    has_response_input: bool = False
    response: ResponseNetConfig | None = None
    has_place_words: bool = False
    pixel_decoder: PixelDecoderConfig = field(default_factory=PixelDecoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    no_target_rule: Literal["any", "first", "last"] = "any"
    encoder_learning_rate_scale: float = 1.0

    def build(self, *, pretrained: bool = True) -> "Mabp":
        """Make the network; ``pretrained=False`` skips weights that a file will replace."""
        from tris.segmenters.mabp.network import Mabp  # the two need each other

        return Mabp(self, load=pretrained)
