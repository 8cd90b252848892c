"""MABP: region queries that adapt to what a sentence names, and a branch that may say "nothing"."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from tris.batch import Batch, InputSpec, SegmenterOutput
from tris.errors import InputError
from tris.layers.resize import resize
from tris.model_directory import ParameterGroup
from tris.segmenters.contract import Segmenter
from tris.segmenters.language_fused_encoder import LanguageFusedEncoder
from tris.segmenters.losses import required_targets
from tris.segmenters.mabp.config import MabpConfig
from tris.segmenters.mabp.decoder import NUM_HEADS, RegionDecoder
from tris.segmenters.mabp.hints import Hints
from tris.segmenters.mabp.losses import (
    mask_cross_entropy,
    mask_dice,
    no_target_cross_entropy,
    soft_targets,
)
from tris.segmenters.mabp.parameters import parameter_groups
from tris.segmenters.mabp.pixel_decoder import PixelDecoder
from tris.segmenters.place_words import build_place_words
from tris.segmenters.response_input import build_response_input
from tris.segmenters.staged_start import build_staged_encoder

REGION_LOGITS = "region_logits_{}"
"""Name of a coarser head's mask among the extras, by its number, 0 = coarsest."""


class Mabp(Segmenter):
    """Language-fused encoder, deformable pixel decoder, region decoder.

    Source:
        MABP (arXiv 2405.15169), Fig. 3; every layer as in the released implementation.
    """

    config: MabpConfig

    def __init__(self, config: MabpConfig, *, load: bool = True) -> None:
        super().__init__()
        encoder, self.config = build_staged_encoder(config, load=load)
        self.assets.update(encoder.assets)
        self.words = encoder.words
        self.encoder = LanguageFusedEncoder(encoder.vision, self.words.word_dim)
        channels, decoder = encoder.vision.channels, config.decoder
        self.pixel_decoder = PixelDecoder(config.pixel_decoder, channels, decoder.dim)
        self.decoder = RegionDecoder(
            decoder,
            word_dim=self.words.word_dim,
            num_tokens=self.input_spec.tokenizer.context_length,
        )
        response, self.config = build_response_input(self, self.config, load=load)
        place_words = (
            build_place_words(self.words, self.words.word_dim) if config.has_place_words else None
        )
        self.hints = Hints(response, place_words, channels)

    @property
    def input_spec(self) -> InputSpec:
        """Size rule, normalisation and tokenizer that the data room must follow."""
        return self.config.input_spec

    def forward(self, batch: Batch) -> SegmenterOutput:
        """Return one mask per expression, and whether it names nothing in the image.

        Images run through stem and first stage once; after that every expression has maps of its
        own. ``extras`` holds the masks of the coarser heads (``region_logits_0``, ..., each at its
        own resolution) that losses see, and ``no_target_logits`` ``(heads, expr, 2)``.

        Raises:
            InputError: If sentences have another number of tokens than the network was built for.
        """
        words = self._encode_words(batch)
        pyramid = self.encoder(batch.images, words, batch.token_mask, image_index=batch.image_index)
        mask_features, maps = self.pixel_decoder(self.hints.add_to_pyramid(pyramid, batch))
        decoded = self.decoder(maps, mask_features, words, batch.token_mask)
        *coarse, finest = decoded.mask_logits
        first = NUM_HEADS - self.config.decoder.num_mask_heads
        extras = {
            REGION_LOGITS.format(number): coarse[number] for number in range(first, NUM_HEADS - 1)
        }
        if decoded.no_target_logits:
            extras["no_target_logits"] = torch.stack(decoded.no_target_logits)
        return SegmenterOutput(
            mask_logits=resize(finest[:, None], batch.images.shape[-2:])[:, 0],
            no_target_logit=self._judge(extras.get("no_target_logits")),
            extras=extras,
        )

    def loss(self, output: SegmenterOutput, batch: Batch) -> dict[str, Tensor]:
        """Return cross-entropy and Dice loss of the finest and the coarser heads, and no-target.

        Raises:
            ValueError: If the batch has no targets.
        """
        targets, config = required_targets(batch), self.config.losses
        finest = soft_targets(targets, output.mask_logits.shape[-2:])
        losses = {
            "mask_loss": config.mask_weight
            * mask_cross_entropy(output.mask_logits, *finest, config),
            "mask_dice_loss": config.mask_dice_weight * mask_dice(output.mask_logits, *finest),
        }
        coarse = [
            (logits, soft_targets(targets, logits.shape[-2:]))
            for name, logits in output.extras.items()
            if name.startswith(REGION_LOGITS.format(""))
        ]
        if coarse:
            entropies = [mask_cross_entropy(logits, *soft, config) for logits, soft in coarse]
            dice = [mask_dice(logits, *soft) for logits, soft in coarse]
            losses["region_loss"] = config.region_weight * torch.stack(entropies).mean()
            losses["region_dice_loss"] = config.region_dice_weight * torch.stack(dice).mean()
        if "no_target_logits" in output.extras:
            losses["no_target_loss"] = config.no_target_weight * no_target_cross_entropy(
                output.extras["no_target_logits"], batch.is_no_target, config
            )
        return losses

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return encoders and the rest, each with and without weight decay.

        Norms, embeddings and Swin's position biases do not decay, except inside the text encoder,
        as released.
        """
        return parameter_groups(self, encoder_scale=self.config.encoder_learning_rate_scale)

    def _encode_words(self, batch: Batch) -> Float[Tensor, "expr tokens word_dim"]:
        wanted = self.input_spec.tokenizer.context_length
        if batch.token_ids.shape[1] != wanted:
            raise InputError(
                f"Sentences have {batch.token_ids.shape[1]} tokens, but this MABP mixes {wanted} "
                "by their place; tokenize as its input_spec says."
            )
        words = cast(Tensor, self.words(batch.token_ids, batch.token_mask))
        return self.hints.add_to_words(words, batch)

    def _judge(self, logits: Float[Tensor, "heads expr 2"] | None) -> Float[Tensor, "expr"] | None:
        """Return a margin, > 0 means "nothing here"."""
        if logits is None:
            return None
        margins = logits[..., 1] - logits[..., 0]
        if self.config.no_target_rule == "any":
            return margins.amax(dim=0)
        return margins[0] if self.config.no_target_rule == "first" else margins[-1]
