"""What describes a GRSer network."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tris.batch import InputSpec, TokenizerConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.errors import InputError
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.grser.hierarchizer import Ranking

if TYPE_CHECKING:
    from tris.segmenters.grser.network import Grser

PAPER_INPUT = InputSpec(
    image_size=(416, 416),
    tokenizer=TokenizerConfig(kind="bert", path="bert-base-uncased", context_length=20),
    group_size=8,
)


@dataclass(frozen=True)
class GrserConfig:
    """The defaults are the paper's network; what it leaves open is in docs/fidelity.md.

    Attributes:
        encoder: Vision and text; Swin-B and BERT-base in the paper.
        input_spec: What the network is fed; ``group_size`` is N, the number of vision-activated
            heatmaps. A group of another size is spread over them.
        stage1_directory: Model directory of the stage-1 network, for the two switches below.
        starts_from_stage1: Whether both encoders, and the tokenizer, are those of stage 1.
        has_response_input: Whether stage 1's frozen response joins every step of the decoder
            (paper: no).
        response: Description of that stage-1 network; filled in from ``stage1_directory``.
        has_coordinate_input: Whether x and y of each pixel join as well (paper: no).
        has_place_words: Whether words get embeddings of their own, and become planes that join as
            well (paper: no); see `PlaceWords`.
        anti_prefix: Token ids of ``<no>``; () = ask the tokenizer.
        sentence_token: Whose feature stands for the sentence: the ``first`` token (BERT), the
            ``last`` one (CLIP's causal tower), or the ``mean`` of all.
        feature_channels: C_v.
        decoder_channels: Of the two steps of the mask predictor.
        embedding_channels: Of the space where z and text meet.
        margin: m of equation 5.
        inference_margin: m of the rule "positive where d_pos + m < d_neg"; None = ``margin``.
        mirror_weight: Lambda of equation 6.
        heatmap_weight: Of a further loss, cross-entropy between the language-activated heatmap and
            the mask of every pair, empty in negatives, in the mirror the background (paper: 0).
            Nothing else says whether it is to light up on the object or on the background, and
            experts of backgrounds are all alike.
        has_language_heatmap: Whether z holds the language-activated heatmap.
        has_vision_heatmaps: Whether z holds the vision-activated ones (False: Table 5, w/o TQM).
        ranking: What orders them (Tables 4 and 5).
        evaluation_ranking: The same at test time; None = as in training.
        has_mirror_training: Table 5, w/o MirrorT.
        has_triplet_loss: Table 5, w/o TriLoss; without it nothing is recognised as negative.
        weighs_triplet_by_progress: The factor t/T of equation 6.
        positive_weight: Factor on the loss of the object's pixels (paper: 1).
        encoder_learning_rate_scale: Factor on the learning rate of both encoders.
    """

    encoder: VisionLanguageConfig = field(default_factory=VisionLanguageConfig)
    input_spec: InputSpec = PAPER_INPUT
    stage1_directory: str = ""
    starts_from_stage1: bool = False
    has_response_input: bool = False
    response: ResponseNetConfig | None = None
    has_coordinate_input: bool = False
    has_place_words: bool = False
    anti_prefix: tuple[int, ...] = ()
    sentence_token: Literal["first", "last", "mean"] = "first"
    feature_channels: int = 512
    decoder_channels: tuple[int, int] = (512, 512)
    embedding_channels: int = 512
    margin: float = 1.0
    inference_margin: float | None = None
    mirror_weight: float = 1.0
    heatmap_weight: float = 0.0
    has_language_heatmap: bool = True
    has_vision_heatmaps: bool = True
    ranking: Ranking = "both"
    evaluation_ranking: Ranking | None = None
    has_mirror_training: bool = True
    has_triplet_loss: bool = True
    weighs_triplet_by_progress: bool = True
    positive_weight: float = 1.0
    encoder_learning_rate_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields."""
        spec = self.input_spec
        if spec.group_size < 1:
            raise InputError(
                f"input_spec.group_size is {spec.group_size}; GRSer is trained on groups: use 1 or "
                "more."
            )
        for name in (
            *("margin", "mirror_weight", "heatmap_weight", "positive_weight"),
            "encoder_learning_rate_scale",
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; use 0 or more.")
        if self.heatmap_weight and not self.has_language_heatmap:
            raise InputError("heatmap_weight trains the language-activated heatmap: there is none.")

    def build(self, *, pretrained: bool = True) -> "Grser":
        """Make the network; ``pretrained=False`` skips weights that a file will replace."""
        from tris.segmenters.grser.network import Grser  # the two need each other

        return Grser(self, load=pretrained)
