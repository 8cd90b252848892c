"""The segmentation network of TRIS (stage 2): words meet pixels in three stages of CLIP."""

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tris.batch import Batch, InputSpec, SegmenterOutput
from tris.encoders.clip import ClipConfig, ClipEncoder
from tris.layers.pixel_word_attention import PixelWordAttention
from tris.layers.resize import resize
from tris.layers.selection import select_rows
from tris.model_directory import ParameterGroup
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.contract import Segmenter
from tris.segmenters.hint_inputs import HintInputs
from tris.segmenters.losses import binary_cross_entropy, required_targets
from tris.segmenters.place_words import build_place_words
from tris.segmenters.pyramid_decoder import PyramidDecoder
from tris.segmenters.response_input import build_response_input
from tris.segmenters.stage_one import load_clip_source

EMBEDDING_ONLY = (
    "clip.visual.attnpool.",
    "clip.visual.head.",
    "clip.visual.trunk.pooling.",
    "clip.text_projection",
    "clip.logit_scale",
)
"""Weights of CLIP's joint embedding: neither the pyramid nor the words depend on them."""


@dataclass(frozen=True)
class TrisNetConfig:
    """The defaults are the paper's network with the released implementation's settings.

    Attributes:
        encoder: Both towers.
        input_spec: What the network is fed; the released code normalises by ImageNet's statistics.
        stage1_directory: Model directory of the stage-1 network, for the two switches below.
        starts_from_stage1: Whether both towers, and the tokenizer, are those that stage 1 trained;
            False = as ``encoder`` says (paper).
        has_response_input: Whether the frozen response of stage 1 to the expression joins the
            decoder's input (paper: no).
        response: Description of that stage-1 network; filled in from ``stage1_directory``.
        decoder_channels: Of the four decoder levels, finest first.
        mask_padding: Whether pixels may not attend to padding tokens; they may as released.
        positive_weight: Factor on the loss of foreground pixels (paper: 1).
        deep_supervision_weight: Factor on the loss of each coarser head (released: 1).
        encoder_learning_rate_scale: Factor on the learning rate of both towers (released: 0.1).
        has_full_rate_positions: Whether positional embeddings learn at the full rate, as released.
        has_coordinate_input: Whether x and y of each pixel join the decoder's input (paper: no).
        has_place_words: Whether words get embeddings of their own, and become planes that join the
            decoder's input (paper: no); see `PlaceWords`.
    """

    encoder: ClipConfig = field(default_factory=ClipConfig)
    input_spec: InputSpec = field(default_factory=InputSpec)
    stage1_directory: str = ""
    starts_from_stage1: bool = False
    has_response_input: bool = False
    response: ResponseNetConfig | None = None
    decoder_channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    mask_padding: bool = False
    positive_weight: float = 1.0
    deep_supervision_weight: float = 1.0
    encoder_learning_rate_scale: float = 0.1
    has_full_rate_positions: bool = True
    has_coordinate_input: bool = False
    has_place_words: bool = False

    def build(self, *, pretrained: bool = True) -> "TrisNet":
        """Make the network; ``pretrained=False`` skips weights that a file will replace."""
        return TrisNet(self, load=pretrained)


class TrisNet(Segmenter):
    """CLIP pyramid, pixel-word attention at c2..c4, four-level decoder.

    Source:
        TRIS (arXiv 2308.14575), section 3.4; every layer as in the released implementation.
    """

    config: TrisNetConfig

    def __init__(self, config: TrisNetConfig, *, load: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = self._build_encoder(load=load)
        self.response, self.config = build_response_input(self, self.config, load=load)
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(not name.startswith(EMBEDDING_ONLY))
        channels = self.encoder.visual_channels
        self.fusions = nn.ModuleList(
            PixelWordAttention(width, self.encoder.word_dim, mask_padding=config.mask_padding)
            for width in channels[1:]
        )
        self.place_words = (
            build_place_words(self.encoder, self.encoder.word_dim)
            if config.has_place_words
            else None
        )
        self.decoder = PyramidDecoder(
            channels, config.decoder_channels, hint_channels=self._hint_inputs.num_channels
        )

    @property
    def input_spec(self) -> InputSpec:
        """Size rule, normalisation and tokenizer that the data room must follow."""
        return self.config.input_spec

    def forward(self, batch: Batch) -> SegmenterOutput:
        """Return one mask per expression; an image is encoded once for all its expressions.

        In training ``extras["deep_logits"]`` holds the three coarser heads, ``(3, expr, height,
        width)``.
        """
        finest, *coarser = self.encoder.encode_pyramid(batch.images)
        words, _ = self.encoder.encode_words(batch.token_ids)
        if self.place_words is not None:
            words = self.place_words.add_to(words, batch.token_ids)
        fused = [
            select_rows(features, batch.image_index)
            + fusion(features, words, batch.token_mask, image_index=batch.image_index)
            for fusion, features in zip(self.fusions, coarser, strict=True)
        ]
        logits = self.decoder(
            finest,
            fused,
            image_index=batch.image_index,
            hints=self._hint_inputs.make(batch, size=finest.shape[-2:]),
        )
        masks = [resize(level, batch.images.shape[-2:])[:, 0] for level in logits]
        extras = {"deep_logits": torch.stack(masks[1:])} if masks[1:] else {}
        return SegmenterOutput(mask_logits=masks[0], no_target_logit=None, extras=extras)

    def loss(self, output: SegmenterOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy of the finest head and, in training, of the coarser heads.

        Raises:
            ValueError: If the batch has no targets.
        """
        targets, weight = required_targets(batch), self.config.positive_weight
        mask_loss = binary_cross_entropy(output.mask_logits, targets, positive_weight=weight)
        losses = {"mask_loss": mask_loss}
        if "deep_logits" in output.extras:
            deep = [
                binary_cross_entropy(logits, targets, positive_weight=weight)
                for logits in output.extras["deep_logits"]
            ]
            scale = self.config.deep_supervision_weight
            losses["deep_supervision_loss"] = scale * torch.stack(deep).sum()
        return losses

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the encoder at its reduced rate, positional embeddings, and the rest."""
        trainable = {name: p for name, p in self.named_parameters() if p.requires_grad}
        encoder = {name: p for name, p in trainable.items() if name.startswith("encoder.")}
        positions = {name: p for name, p in encoder.items() if "positional_embedding" in name}
        towers = [p for name, p in encoder.items() if name not in positions]
        heads = [p for name, p in trainable.items() if name not in encoder]
        scale = self.config.encoder_learning_rate_scale
        position_scale = 1.0 if self.config.has_full_rate_positions else scale
        return [
            ParameterGroup("encoder", towers, scale),
            ParameterGroup("encoder_positions", list(positions.values()), position_scale),
            ParameterGroup("heads", heads),
        ]

    @property
    def _hint_inputs(self) -> HintInputs:
        return HintInputs(self.response, self.config.has_coordinate_input, self.place_words)

    def _build_encoder(self, *, load: bool) -> ClipEncoder:
        if not (load and self.config.starts_from_stage1):
            encoder = self.config.encoder.build(pretrained=load)
            self.assets.update(encoder.assets)
            return encoder
        source = load_clip_source(self.config.stage1_directory)
        input_spec = dataclasses.replace(self.config.input_spec, tokenizer=source.tokenizer)
        self.config = dataclasses.replace(
            self.config, encoder=source.clip.config, input_spec=input_spec
        )
        self.assets.update(source.assets)
        return source.clip
