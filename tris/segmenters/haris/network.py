"""HARIS: frozen encoders, three human-like attention blocks, a Transformer mask decoder."""

import contextlib
import dataclasses
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tris.batch import Batch, InputSpec, SegmenterOutput
from tris.encoders.clip import ClipEncoder
from tris.encoders.feature_cache import FeatureCache, as_stored
from tris.encoders.sam import SamEncoder
from tris.layers.resize import resize
from tris.layers.selection import select_rows
from tris.left_out import digest_of_state
from tris.model_directory import ParameterGroup
from tris.segmenters.contract import Segmenter
from tris.segmenters.haris.attention import (
    CrossAttentionBlock,
    FeedbackAttention,
    HierarchicalFusion,
)
from tris.segmenters.haris.config import HarisConfig
from tris.segmenters.haris.decoder import TokenMaskDecoder
from tris.segmenters.haris.encoders import ClipImageTower, ClipTextTower
from tris.segmenters.hint_inputs import HintInputs
from tris.segmenters.hints import COORDINATE_CHANNELS, content_shares, coordinates_of_content
from tris.segmenters.losses import dice_loss, focal_loss, required_targets
from tris.segmenters.place_words import build_place_words
from tris.segmenters.response_input import build_response_input
from tris.segmenters.stage_one import load_clip_source

NUM_BLOCKS = 3


class HarisNet(Segmenter):
    """Referring segmentation that trains attention and decoder only.

    Source:
        Zhang et al., "HARIS: Human-Like Attention for Reference Image Segmentation", section III;
        no code was released.
    """

    config: HarisConfig

    def __init__(self, config: HarisConfig, *, load: bool = True) -> None:
        super().__init__()
        self.config = config
        self._feature_folder: Path | None = None
        self._caches: dict[str, FeatureCache] = {}
        clip = self._build_clip(load=load)
        self.text_encoder = ClipTextTower(clip).requires_grad_(False)
        self.image_encoder = self._build_image_encoder(clip, load=load)
        self.image_encoder.requires_grad_(self.config.image_encoder_trainable)
        self.response, self.config = build_response_input(self, self.config, load=load)
        self.place_words = (
            build_place_words(self.text_encoder, self.text_encoder.word_dim)
            if self.config.has_place_words
            else None
        )
        dim, channels = self.config.dim, self.image_encoder.channels
        self.levels = nn.ModuleList(
            LevelProjection(width, dim, has_coordinates=self.config.has_coordinate_input)
            for width in (channels if self.config.has_hierarchy else channels[-1:])
        )
        num_hints = self._hint_inputs.num_channels
        self.hint = nn.Conv2d(num_hints, dim, 1) if num_hints else None
        self.blocks = nn.ModuleList(
            self._build_block(dim if number else self.text_encoder.word_dim)
            for number in range(NUM_BLOCKS)
        )
        self.fusions = nn.ModuleList(HierarchicalFusion(dim) for _ in self.levels[1:])
        self.decoder = TokenMaskDecoder(
            dim,
            query=self.config.decoder,
            num_layers=self.config.decoder_layers,
            num_heads=self.config.decoder_heads,
            mlp_dim=self.config.decoder_mlp_dim,
            dropout=self.config.dropout,
        )

    @property
    def input_spec(self) -> InputSpec:
        """Size rule, normalisation and tokenizer that the data room must follow."""
        return self.config.input_spec

    def forward(self, batch: Batch) -> SegmenterOutput:
        """Return one mask per expression; an image is encoded once for all its expressions."""
        shares = content_shares(batch)
        levels = [
            project(features, shares)
            for project, features in zip(self.levels, self._encode_images(batch), strict=True)
        ]
        with torch.no_grad():
            words, sentence = self.text_encoder(batch.token_ids)
        if self.place_words is not None:
            words = self.place_words.add_to(words, batch.token_ids)
        visual, size = select_rows(levels[0], batch.image_index), levels[0].shape[-2:]
        hints = self._hint_inputs.make(batch, size=size)
        if self.hint is not None:
            visual = visual + self.hint(hints)
        for number, block in enumerate(self.blocks):
            tokens = visual.flatten(2).transpose(1, 2)
            tokens, words = block(tokens, words, sentence, batch.token_mask)
            visual = tokens.transpose(1, 2).unflatten(2, size)
            if number < len(self.fusions):
                visual = self.fusions[number](
                    visual, levels[number + 1], image_index=batch.image_index
                )
        logits = self.decoder(visual, words, batch.token_mask)
        height, width = batch.images.shape[-2:]
        padded = (height + -height % self._multiple, width + -width % self._multiple)
        masks = resize(logits[:, None], padded)[:, 0, :height, :width]
        return SegmenterOutput(mask_logits=masks, no_target_logit=None, extras={})

    def loss(self, output: SegmenterOutput, batch: Batch) -> dict[str, Tensor]:
        """Return focal and dice loss (equation 6).

        Raises:
            ValueError: If the batch has no targets.
        """
        targets, config = required_targets(batch), self.config
        focal = focal_loss(
            output.mask_logits, targets, alpha=config.focal_alpha, gamma=config.focal_gamma
        )
        dice = dice_loss(output.mask_logits, targets, squares_denominator=True)
        return {"focal_loss": config.focal_weight * focal, "dice_loss": config.dice_weight * dice}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return all that is trained, the image tower at its own rate if it is among that."""
        trainable = {name: p for name, p in self.named_parameters() if p.requires_grad}
        tower = {name: p for name, p in trainable.items() if name.startswith("image_encoder.")}
        heads = [p for name, p in trainable.items() if name not in tower]
        scale = self.config.encoder_learning_rate_scale
        encoder = ParameterGroup("image_encoder", list(tower.values()), scale)
        return [*([encoder] if tower else []), ParameterGroup("heads", heads)]

    def frozen_parts(self) -> list[nn.Module]:
        """Return stage 1, where it is an input, and the frozen encoders."""
        parts = [*super().frozen_parts(), self.text_encoder]
        return parts if self.config.image_encoder_trainable else [*parts, self.image_encoder]

    def left_out(self) -> dict[str, str]:
        """Return where frozen weights with a name come from; see `HarisConfig.frozen_weights`."""
        config, parts = self.config, {}
        clip_source = f"{config.clip.architecture}, {config.clip.pretrained}"
        if config.leaves_out_clip:
            parts["text_encoder."] = clip_source
        if config.image_encoder == "sam" and config.leaves_out_sam:
            parts["image_encoder."] = config.sam.pretrained
        if config.image_encoder == "clip" and config.leaves_out_clip:
            parts["image_encoder."] = clip_source
        if config.image_encoder_trainable:
            parts.pop("image_encoder.", None)
        return parts

    def keep_features_in(self, folder: Path) -> None:
        """Keep the frozen image encoder's maps in this folder, if the config asks for it."""
        if self.config.cache_frozen_features:
            self._feature_folder, self._caches = folder, {}

    @property
    def _hint_inputs(self) -> HintInputs:
        # Coordinates join every level (`LevelProjection`), not the hints.
        return HintInputs(self.response, False, self.place_words)

    @property
    def _multiple(self) -> int:
        return self.image_encoder.multiple

    def _encode_images(self, batch: Batch) -> list[Float[Tensor, "images _ h w"]]:
        """Return the maps that ``levels`` project; frozen ones without gradient."""
        if self.config.image_encoder_trainable:
            maps = self._encode(batch.images)
        elif self._feature_folder is not None:
            maps = self._encode_once(batch, self._feature_folder)
        else:
            maps = as_stored(self._encode(batch.images))
        return maps[-len(self.levels) :]

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # digests cannot be compiled
    def _encode_once(self, batch: Batch, folder: Path) -> list[Tensor]:
        cache = self._cache(folder, _precision(batch.images))
        maps: list[Tensor] = cache.maps(batch.image_id, batch.images, self._encode)
        return maps

    def _encode(self, images: Tensor) -> list[Tensor]:
        bottom, right = (-side % self._multiple for side in images.shape[-2:])
        padded = functional.pad(images, (0, right, 0, bottom))
        learns = self.config.image_encoder_trainable
        with contextlib.nullcontext() if learns else torch.no_grad():
            return cast(list[Tensor], self.image_encoder(padded))

    def _cache(self, folder: Path, precision: str) -> FeatureCache:
        if precision not in self._caches:
            state = self.image_encoder.state_dict()
            spec = dataclasses.asdict(self.config.input_spec)
            spec.pop("tokenizer")
            self._caches[precision] = FeatureCache(
                folder,
                identity={
                    "encoder": digest_of_state(state),
                    "layers": self._layers_read(),
                    "input": spec,
                    "precision": precision,
                },
            )
        return self._caches[precision]

    def _layers_read(self) -> list[int]:
        if isinstance(self.image_encoder, SamEncoder):
            return [*self.image_encoder.layer_numbers]
        return [*self.config.clip_levels, self.config.clip_grid_level]

    def _build_clip(self, *, load: bool) -> ClipEncoder:
        config = self.config
        if not (load and config.starts_from_stage1):
            clip = config.clip.build(pretrained=load or config.leaves_out_clip)
            self.assets.update(clip.assets)
            return clip
        source = load_clip_source(config.stage1_directory)
        input_spec = dataclasses.replace(config.input_spec, tokenizer=source.tokenizer)
        self.config = dataclasses.replace(config, clip=source.clip.config, input_spec=input_spec)
        self.assets.update(source.assets)
        return source.clip

    def _build_image_encoder(self, clip: ClipEncoder, *, load: bool) -> SamEncoder | ClipImageTower:
        if self.config.image_encoder == "sam":
            sam = self.config.sam.build(pretrained=load or self.config.leaves_out_sam)
            self.config = dataclasses.replace(self.config, sam=sam.config)
            return sam
        return ClipImageTower(
            clip, levels=self.config.clip_levels, grid_level=self.config.clip_grid_level
        )

    def _build_block(self, word_dim: int) -> nn.Module:
        config = self.config
        if config.block == "cross_attention":
            return CrossAttentionBlock(config.dim, word_dim, num_heads=config.decoder_heads)
        return FeedbackAttention(
            config.dim,
            word_dim,
            self.text_encoder.sentence_dim,
            has_feedback=config.has_feedback,
            has_language_weighting=config.has_language_weighting,
            has_vision_weighting=config.has_vision_weighting,
            pixel_weights=config.pixel_weights,
        )


class LevelProjection(nn.Module):
    """Bring a level of the image encoder to C channels: norm over channels, linear map per cell.

    The paper's three maps have the same C already; those of SAM's layers have not, nor the same
    scale.
    """

    def __init__(self, channels: int, dim: int, *, has_coordinates: bool) -> None:
        super().__init__()
        self.has_coordinates = has_coordinates
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Conv2d(channels + COORDINATE_CHANNELS * has_coordinates, dim, 1)

    def forward(
        self, features: Float[Tensor, "n channels h w"], shares: Float[Tensor, "n 2"]
    ) -> Float[Tensor, "n dim h w"]:
        """Return the projected map.

        Args:
            features: A level of the image encoder.
            shares: Which part of the input shows the photograph (`content_shares`).
        """
        normed = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.has_coordinates:
            planes = coordinates_of_content(features.shape[-2:], shares)
            normed = torch.cat([normed, planes.to(normed.dtype)], dim=1)
        projected: Tensor = self.linear(normed)
        return projected


def _precision(images: Tensor) -> str:
    kind = images.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else images.dtype
    return str(dtype).removeprefix("torch.")
