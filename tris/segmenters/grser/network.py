"""GRSer: language and the group's photographs query each photograph, or find nothing in it."""

import dataclasses
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tris.batch import Batch, InputSpec, SegmenterOutput
from tris.data.tokens import build_tokenizer
from tris.distributed import relative_share
from tris.layers.resize import resize
from tris.model_directory import ParameterGroup
from tris.segmenters.contract import Segmenter
from tris.segmenters.grser.anti_expression import negate, prefix_tokens
from tris.segmenters.grser.config import GrserConfig
from tris.segmenters.grser.decoder import MaskPredictor, MergeBlock, TriphasicEmbedding
from tris.segmenters.grser.hierarchizer import Sides, find_groups
from tris.segmenters.grser.losses import (
    heatmap_cross_entropy,
    positive_cross_entropy,
    triplet_margin_loss,
)
from tris.segmenters.grser.queries import TriphasicQueries
from tris.segmenters.hint_inputs import HintInputs
from tris.segmenters.language_fused_encoder import LanguageFusedEncoder
from tris.segmenters.losses import required_targets
from tris.segmenters.place_words import build_place_words
from tris.segmenters.response_input import build_response_input
from tris.segmenters.staged_start import build_staged_encoder


class Grser(Segmenter):
    """LAVT's encoder, triphasic queries, heatmap hierarchizer, mask predictor.

    Pairs of photograph and sentence that share a ``group_index`` above 0 are a group; a pair with
    0 is a group of one. What is said of a photograph does not depend on the order of its group.

    Source:
        GRSer (arXiv 2305.12452), section 3; no code was released.
    """

    config: GrserConfig

    def __init__(self, config: GrserConfig, *, load: bool = True) -> None:
        super().__init__()
        encoder, config = build_staged_encoder(config, load=load)
        self.assets.update(encoder.assets)
        self.config = _with_prefix(config, self.assets)
        self._progress = 1.0
        self.words = encoder.words
        self.encoder = LanguageFusedEncoder(encoder.vision, encoder.words.word_dim)
        self.response, self.config = build_response_input(self, self.config, load=load)
        self.place_words = (
            build_place_words(self.words, encoder.words.word_dim)
            if config.has_place_words
            else None
        )
        self._build_heads(encoder.vision.channels, encoder.words.word_dim)

    @property
    def input_spec(self) -> InputSpec:
        """Size rule, normalisation, tokenizer and group size that the data room must follow."""
        return self.config.input_spec

    def set_progress(self, fraction: float) -> None:
        """Take note of t/T of equation 6; 1 unless told otherwise."""
        self._progress = fraction

    def forward(self, batch: Batch) -> SegmenterOutput:
        """Return a mask per pair, and how much the anti-expression fits better.

        In training a negative pair has no mask (zeros). In evaluation the logits of a pair that is
        recognised as negative all lie below 0: the paper's zero mask. ``extras``: ``to_text`` and
        ``to_anti_text``, the two distances ``(expr,)``; in training also ``mirror_logits``
        ``(positives, height, width)``, and ``heatmap`` and ``mirror_heatmap`` ``(expr, h, w)``, the
        language-activated ones, where they have a loss.
        """
        words, texts = self._read(batch)
        pyramid = self.encoder(batch.images, words, batch.token_mask, image_index=batch.image_index)
        hints = self._hint_inputs.make(batch, size=pyramid[0].shape[-2:])
        features = self.neck(pyramid[3], pyramid[2], hints)
        members = find_groups(batch.group_index)
        triphasic, heatmaps = self._query(features, texts, members, batch, hints)
        decode = _Decoding(self.predictor, pyramid[:2], hints, batch.images.shape[-2:])
        extras: dict[str, Tensor] = {}
        if not self.training:
            logits = decode(triphasic)
        else:
            is_positive = ~batch.is_no_target
            logits = decode.learned(triphasic, is_positive)
            if self.config.has_mirror_training and bool(is_positive.any()):
                mirrored, mirror_heatmaps = self._query(
                    features, texts.swapped(), members, batch, hints
                )
                extras["mirror_logits"] = decode(mirrored, is_positive.nonzero()[:, 0])
                extras |= self._learned_heatmap("mirror_heatmap", mirror_heatmaps)
            extras |= self._learned_heatmap("heatmap", heatmaps)
        if self.embedding is None:
            return SegmenterOutput(logits, None, extras)
        extras["to_text"], extras["to_anti_text"] = self.embedding(triphasic, *texts)
        no_target_logit = extras["to_text"] + self._margin() - extras["to_anti_text"]
        if not self.training:
            logits = empty_masks(logits, no_target_logit > 0)
        return SegmenterOutput(logits, no_target_logit, extras)

    def loss(self, output: SegmenterOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of equation 6, and the heatmap's if it has a weight.

        Masks are learned from positive pairs alone, recognition from all.

        Raises:
            ValueError: If the batch has no targets.
        """
        targets, is_positive = required_targets(batch), ~batch.is_no_target
        weight = self.config.positive_weight
        share = _share_of_positives(is_positive)
        losses = {
            "mask_loss": share
            * positive_cross_entropy(
                output.mask_logits, targets, is_positive, positive_weight=weight
            )
        }
        if "mirror_logits" in output.extras:
            mirror_loss = positive_cross_entropy(
                output.extras["mirror_logits"], targets[is_positive], is_positive[is_positive],
                positive_weight=weight, is_mirror=True,
            )  # fmt: skip
            losses["mirror_loss"] = share * self.config.mirror_weight * mirror_loss
        heatmap_losses = [
            heatmap_cross_entropy(
                output.extras[name], targets, positive_weight=weight, is_mirror=is_mirror
            )
            for name, is_mirror in (("heatmap", False), ("mirror_heatmap", True))
            if name in output.extras
        ]
        if heatmap_losses:
            losses["heatmap_loss"] = self.config.heatmap_weight * torch.stack(heatmap_losses).sum()
        if "to_text" in output.extras:
            triplet = triplet_margin_loss(
                output.extras["to_text"], output.extras["to_anti_text"], is_positive,
                margin=self.config.margin,
            )  # fmt: skip
            growth = self._progress if self.config.weighs_triplet_by_progress else 1.0
            losses["triplet_loss"] = growth * triplet
        return losses

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return both encoders at their rate, and the rest."""
        encoders = ("encoder.backbone.", "words.")
        trainable = {name: p for name, p in self.named_parameters() if p.requires_grad}
        inner = {name: p for name, p in trainable.items() if name.startswith(encoders)}
        heads = [p for name, p in trainable.items() if name not in inner]
        scale = self.config.encoder_learning_rate_scale
        return [
            ParameterGroup("encoder", list(inner.values()), scale),
            ParameterGroup("heads", heads),
        ]

    def _read(self, batch: Batch) -> tuple[Tensor, Sides]:
        """Return the expressions' words, and both sides' sentence features, float32."""
        anti_ids, anti_mask = negate(batch.token_ids, batch.token_mask, self.config.anti_prefix)
        token_mask = torch.cat([batch.token_mask, anti_mask])
        words = self.words(torch.cat([batch.token_ids, anti_ids]), token_mask)
        sentences = _pool(words, token_mask, self.config.sentence_token).float()
        text, anti_text = sentences.chunk(2)
        own = words[: len(batch.token_ids)]
        if self.place_words is not None:
            own = self.place_words.add_to(own, batch.token_ids)
        return own, Sides(text, anti_text)

    def _query(
        self,
        features: Tensor,
        texts: Sides,
        members: Bool[Tensor, "expr expr"],
        batch: Batch,
        hints: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the triphasic features: visual features, hints if there are any, heatmaps.

        And the heatmaps by themselves, the language-activated one first.
        """
        parts = [features]
        if hints is not None:
            parts.append(resize(hints, features.shape[-2:]).to(features.dtype))
        if self.queries is None:
            return torch.cat(parts, dim=1), None
        config = self.config
        at_test = config.evaluation_ranking or config.ranking
        heatmaps = self.queries(
            features, texts, members=members,
            ranking=config.ranking if self.training else at_test,
            image_id=batch.image_id[batch.image_index],
        )  # fmt: skip
        return torch.cat([*parts, heatmaps.to(features.dtype)], dim=1), heatmaps

    def _learned_heatmap(self, name: str, heatmaps: Tensor | None) -> dict[str, Tensor]:
        return {name: heatmaps[:, 0]} if self.config.heatmap_weight and heatmaps is not None else {}

    def _margin(self) -> float:
        margin = self.config.inference_margin
        return self.config.margin if margin is None else margin

    @property
    def _hint_inputs(self) -> HintInputs:
        return HintInputs(self.response, self.config.has_coordinate_input, self.place_words)

    def _build_heads(self, channels: tuple[int, int, int, int], text_dim: int) -> None:
        config = self.config
        hint_channels = self._hint_inputs.num_channels
        self.neck = MergeBlock(
            channels[3], channels[2], config.feature_channels,
            hint_channels=hint_channels, is_signed=True,
        )  # fmt: skip
        self.queries: TriphasicQueries | None = None
        if config.has_language_heatmap or config.has_vision_heatmaps:
            self.queries = TriphasicQueries(
                config.feature_channels, text_dim,
                num_slots=config.input_spec.group_size * config.has_vision_heatmaps,
                has_language_heatmap=config.has_language_heatmap,
            )  # fmt: skip
        triphasic = config.feature_channels + hint_channels
        triphasic += self.queries.num_maps if self.queries else 0
        self.predictor = MaskPredictor(
            triphasic, (channels[0], channels[1]), config.decoder_channels,
            hint_channels=hint_channels,
        )  # fmt: skip
        self.embedding: TriphasicEmbedding | None = None
        if config.has_triplet_loss:
            self.embedding = TriphasicEmbedding(triphasic, config.embedding_channels, text_dim)


class _Decoding(NamedTuple):
    """The mask predictor with all that one batch gives it besides triphasic features."""

    predictor: MaskPredictor
    fine_levels: list[Tensor]
    hints: Tensor | None
    size: torch.Size

    def __call__(self, triphasic: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the logits of all pairs, or of some."""
        if rows is None:
            return self._run(triphasic, self.fine_levels, self.hints)
        hints = None if self.hints is None else self.hints[rows]
        return self._run(triphasic[rows], [level[rows] for level in self.fine_levels], hints)

    def learned(self, triphasic: Tensor, is_positive: Tensor) -> Tensor:
        """Return the logits of positive pairs; negatives teach no mask, theirs are zero."""
        positives = is_positive.nonzero()[:, 0]
        if not len(positives):
            return self(triphasic)
        logits = self(triphasic, positives)
        blank = logits.new_zeros(len(is_positive), *logits.shape[1:])
        return blank.index_copy(0, positives, logits)

    def _run(self, triphasic: Tensor, fine_levels: list[Tensor], hints: Tensor | None) -> Tensor:
        logits: Tensor = self.predictor(triphasic, fine_levels, hints, size=self.size)
        return logits


def _share_of_positives(is_positive: Bool[Tensor, "expr"]) -> float:
    """Return what a mean over this process's positives weighs among the processes.

    The trainer weighs every loss by this process's share of all pairs; that is taken back.
    """
    positives = relative_share(int(is_positive.sum()), like=is_positive)
    return positives / relative_share(len(is_positive), like=is_positive)


def empty_masks(
    logits: Float[Tensor, "expr height width"], is_empty: Bool[Tensor, "expr"]
) -> Float[Tensor, "expr height width"]:
    """Shift the logits of some masks until none is above 0; their peak stays where it is."""
    excess = logits.amax(dim=(1, 2), keepdim=True).relu() + 1
    return torch.where(is_empty[:, None, None], logits - excess, logits)


def _pool(
    words: Float[Tensor, "expr tokens dim"],
    token_mask: Bool[Tensor, "expr tokens"],
    sentence_token: Literal["first", "last", "mean"],
) -> Float[Tensor, "expr dim"]:
    if sentence_token == "first":
        return words[:, 0]
    lengths = token_mask.sum(dim=1)
    if sentence_token == "last":
        return words[torch.arange(len(words), device=words.device), lengths - 1]
    return (words * token_mask[..., None]).sum(dim=1) / lengths[:, None]


def _with_prefix(config: GrserConfig, assets: dict[str, bytes]) -> GrserConfig:
    if config.anti_prefix:
        return config
    tokenizer = build_tokenizer(config.input_spec.tokenizer, assets=assets)
    return dataclasses.replace(config, anti_prefix=prefix_tokens(tokenizer))
