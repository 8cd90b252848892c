"""DMMI: vision and words refine each other in the encoder, and decode each other afterwards."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from tris.batch import Batch, InputSpec, PhraseErasing, SegmenterOutput, TokenizerConfig
from tris.encoders.staged import NUM_STAGES
from tris.encoders.vision_language import VisionLanguageConfig
from tris.model_directory import ParameterGroup
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.contract import Segmenter
from tris.segmenters.dmmi.attention import Pooling
from tris.segmenters.dmmi.decoders import Decoded, MaskDecoder, PhraseDecoder
from tris.segmenters.dmmi.fusion import StageFusion
from tris.segmenters.dmmi.losses import (
    contrastive_loss,
    similarity_loss,
    weighted_cross_entropy,
)
from tris.segmenters.hint_inputs import HintInputs
from tris.segmenters.losses import required_targets
from tris.segmenters.place_words import build_place_words
from tris.segmenters.response_input import build_response_input
from tris.segmenters.staged_start import build_staged_encoder

RELEASED_INPUT = InputSpec(
    image_size=(480, 480),
    tokenizer=TokenizerConfig(
        kind="bert", path="bert-base-uncased", context_length=20, keep_end_token=False
    ),
    erases_phrases=PhraseErasing(),
)
"""As released: long sentences are cut blindly. The paper says 448 pixels."""


@dataclass(frozen=True)
class DmmiConfig:
    """The defaults are the released network and its losses.

    Attributes:
        encoder: Vision and word encoders.
        input_spec: What the network is fed, and which phrase training sentences lose.
        stage1_directory: Model directory of the stage-1 network, for the switch below.
        starts_from_stage1: Whether both encoders, and the tokenizer, are those that stage 1
            trained; False = as ``encoder`` says (paper).
        regions: Sides of the regions that pixels ask words with.
        windows: Lengths of the runs that words ask pixels with; empty = words are not refined.
        pooling: How a region or a run becomes one query: ``learned`` (released) or ``sum`` (paper).
        skips: What the decoder reads of each stage: ``residual`` = what language added, normalised
            (released with Swin), ``fused`` = the fused features (released with ResNet; paper).
        num_heads: Of the decoders' attention.
        feedforward_dim: Inner width of the decoders' attention layers.
        dropout: In the decoders' attention layers.
        class_weights: Of background and foreground pixels in the mask loss (paper: 1 and 1).
        similarity_weight: Factor on the similarity loss (paper: 1); 0 = no phrase decoder.
        contrastive_weight: Factor on the contrastive loss (paper: 1); 0 = none.
        temperature: Of the contrastive loss.
        encoder_learning_rate_scale: Factor on the learning rate of both encoders (paper: 1).
        has_coordinate_input: Whether x and y of each cell join the decoder's input (paper: no).
        has_response_input: Whether the frozen response of stage 1 to the expression joins it, too
            (paper: no).
        response: Description of that stage-1 network; filled in from ``stage1_directory``.
        has_place_words: Whether words get embeddings of their own, and become planes that join the
            decoder's input (paper: no); see `PlaceWords`.
    """

    encoder: VisionLanguageConfig = field(default_factory=VisionLanguageConfig)
    input_spec: InputSpec = RELEASED_INPUT
    stage1_directory: str = ""
    starts_from_stage1: bool = False
    regions: tuple[int, ...] = (1, 3, 5)
    windows: tuple[int, ...] = (1, 2, 3)
    pooling: Pooling = "learned"
    skips: Literal["residual", "fused"] = "residual"
    num_heads: int = 8
    feedforward_dim: int = 2048
    dropout: float = 0.1
    class_weights: tuple[float, float] = (0.9, 1.1)
    similarity_weight: float = 0.01
    contrastive_weight: float = 0.01
    temperature: float = 0.05
    encoder_learning_rate_scale: float = 1.0
    has_coordinate_input: bool = False
    has_response_input: bool = False
    response: ResponseNetConfig | None = None
    has_place_words: bool = False

    def build(self, *, pretrained: bool = True) -> "Dmmi":
        """Make the network; ``pretrained=False`` skips weights that a file will replace."""
        return Dmmi(self, load=pretrained)


class Dmmi(Segmenter):
    """Dual multi-modal interaction network.

    ``forward`` gives, beside the mask, ``extras["class_logits"]`` (background and foreground, input
    resolution) and, in training, what the two language losses compare.

    Source:
        DMMI (arXiv 2308.13853); every layer as in the released implementation.
    """

    config: DmmiConfig

    def __init__(self, config: DmmiConfig, *, load: bool = True) -> None:
        super().__init__()
        self.encoder, config = build_staged_encoder(config, load=load)
        self.config = config
        self.assets.update(self.encoder.assets)
        self.response, self.config = build_response_input(self, self.config, load=load)
        channels, dim = self.encoder.vision.channels, self.encoder.words.word_dim
        self.place_words = (
            build_place_words(self.encoder.words, dim) if config.has_place_words else None
        )
        self.fusions = nn.ModuleList(
            StageFusion(
                width,
                dim,
                regions=config.regions,
                windows=config.windows,
                pooling=config.pooling,
                has_features=config.skips == "fused" or level + 1 < NUM_STAGES,
            )
            for level, width in enumerate(channels)
        )
        reads_residual = config.skips == "residual"
        self.skip_norms = nn.ModuleList(nn.LayerNorm(c) for c in channels if reads_residual)
        attention = {
            "num_heads": config.num_heads,
            "feedforward_dim": config.feedforward_dim,
        }
        self.mask_decoder = MaskDecoder(
            channels,
            dim,
            dropout=config.dropout,
            has_summary=config.contrastive_weight > 0,
            hint_channels=self._hint_inputs.num_channels,
            **attention,
        )
        self.phrase_decoder = (
            PhraseDecoder(dim, dropout=config.dropout, **attention)
            if config.similarity_weight > 0
            else None
        )
        self.word_summary = nn.Linear(dim, dim) if config.contrastive_weight > 0 else None

    @property
    def input_spec(self) -> InputSpec:
        """Size rule, normalisation, tokenizer, and which phrases training erases."""
        return self.config.input_spec

    def forward(self, batch: Batch) -> SegmenterOutput:
        """Return one mask per expression; an image passes the first stage once for all of them."""
        words = self._encode_words(batch.token_ids, batch.token_mask)
        pyramid, words = self._encode(batch, words)
        with_summary = self.training and self.word_summary is not None
        hints = self._hint_inputs.make(batch, size=pyramid[2].shape[-2:])
        decoded = self.mask_decoder(pyramid, words, hints=hints, with_summary=with_summary)
        class_logits = functional.interpolate(
            decoded.class_logits, batch.images.shape[-2:], mode="bilinear", align_corners=True
        )
        extras = {"class_logits": class_logits}
        if self.training:
            extras |= self._language_extras(batch, decoded, words)
        return SegmenterOutput(
            mask_logits=class_logits[:, 1] - class_logits[:, 0], no_target_logit=None, extras=extras
        )

    def loss(self, output: SegmenterOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the mask loss and, of an output from training, the two language losses.

        Raises:
            ValueError: If the batch has no targets.
        """
        config, extras = self.config, output.extras
        losses = {
            "mask_loss": weighted_cross_entropy(
                output.mask_logits, required_targets(batch), class_weights=config.class_weights
            )
        }
        has_target = ~batch.is_no_target
        if "recovered_words" in extras:
            losses["similarity_loss"] = config.similarity_weight * similarity_loss(
                extras["recovered_words"], extras["refined_words"], batch.token_mask, has_target
            )
        if "visual_summary" in extras:
            losses["contrastive_loss"] = config.contrastive_weight * contrastive_loss(
                extras["visual_summary"],
                extras["word_summary"],
                has_target,
                temperature=config.temperature,
            )
        return losses

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return encoders and heads; norms and position biases of the backbone do not decay.

        The backbone is what released DMMI calls so: the vision encoder with all fusions. A weight
        is a norm's if its name says "norm", so a ResNet's batch norms decay.
        """
        scale = self.config.encoder_learning_rate_scale
        rates = {"vision": scale, "words": scale, "fusions": 1.0, "heads": 1.0}
        sorted_out: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                sorted_out.setdefault(_group_of(name), []).append(parameter)
        return [
            ParameterGroup(
                part if decays else f"{part}_without_decay",
                parameters,
                rates[part],
                None if decays else 0.0,
            )
            for (part, decays), parameters in sorted_out.items()
        ]

    @property
    def _hint_inputs(self) -> HintInputs:
        return HintInputs(self.response, self.config.has_coordinate_input, self.place_words)

    def _encode_words(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        words: Tensor = self.encoder.words(token_ids, token_mask)
        return words if self.place_words is None else self.place_words.add_to(words, token_ids)

    def _encode(self, batch: Batch, words: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return what the decoder reads of the four stages, and the refined words."""
        vision, pyramid = self.encoder.vision, []
        features = vision.stem(batch.images)
        image_index: Tensor | None = batch.image_index
        for level, fusion in enumerate(self.fusions):
            features = vision.stage(level, features)
            fused = fusion(features, words, batch.token_mask, image_index=image_index)
            features, words, image_index = fused.features, fused.words, None
            if self.config.skips == "residual":
                pyramid.append(_normalise(self.skip_norms[level], fused.residual))
            else:
                pyramid.append(features)
        return pyramid, words

    def _language_extras(self, batch: Batch, decoded: Decoded, words: Tensor) -> dict[str, Tensor]:
        extras = {}
        if self.phrase_decoder is not None:
            ids = batch.token_ids if batch.erased_token_ids is None else batch.erased_token_ids
            erased = self._encode_words(ids, batch.token_mask)
            extras["recovered_words"] = self.phrase_decoder(erased, decoded.middle)
            extras["refined_words"] = words
        if self.word_summary is not None and decoded.summary is not None:
            extras["visual_summary"] = decoded.summary
            extras["word_summary"] = self.word_summary(words).mean(dim=1)
        return extras


def _normalise(norm: nn.Module, features: Tensor) -> Tensor:
    normalised: Tensor = norm(features.movedim(1, -1))
    return normalised.movedim(-1, 1)


def _group_of(name: str) -> tuple[str, bool]:
    """Return the part of the network that a weight belongs to, and whether it decays."""
    part, second = name.split(".")[:2]
    if part == "encoder":
        part = second
    elif part in ("fusions", "skip_norms"):
        part = "fusions"
    else:
        part = "heads"
    is_backbone = part in ("vision", "fusions")
    return part, not (is_backbone and ("norm" in name or "relative_position_bias" in name))
