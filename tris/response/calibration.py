"""The calibration losses: a frozen CLIP judges what a response map keeps (TRIS, section 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tris.batch import Batch, InputSpec
from tris.encoders.clip import ClipConfig, ClipEncoder
from tris.layers.resize import resize
from tris.layers.selection import select_rows


@dataclass(frozen=True)
class CalibrationConfig:
    """The two terms of equation 8; defaults as released, the paper's choice named beside them.

    Attributes:
        encoder: The frozen judge (ViT-B/32 whatever the trained tower is).
        positive_weight: Weight of the foreground term.
        negative_weight: Weight of the background term; the paper prints 1.
        num_negatives: K, sentences of other objects of the same image; the paper prints 6.
        negative_reduction: ``mean`` over the K negatives; the paper writes ``sum``.
        clamp_negatives: Treat a negative cosine as 0. Without it log(1 - S) rewards pushing an
            already negative similarity ever lower, which a small CLIP is prone to.
        normalisation: The judge is given the network's normalised pixels as they are
            (``network``), or pixels renormalised to its own statistics (``encoder``).
    """

    encoder: ClipConfig = field(
        default_factory=lambda: ClipConfig(architecture="ViT-B-32-quickgelu")
    )
    positive_weight: float = 1.0
    negative_weight: float = 2.0
    num_negatives: int = 3
    negative_reduction: Literal["mean", "sum"] = "mean"
    clamp_negatives: bool = False
    normalisation: Literal["network", "encoder"] = "network"

    @property
    def is_active(self) -> bool:
        """Whether any term counts."""
        return self.positive_weight > 0 or self.needs_negatives

    @property
    def needed_negatives(self) -> int:
        """Sentences of other objects that each expression of a batch must bring."""
        return self.num_negatives if self.needs_negatives else 0

    @property
    def needs_negatives(self) -> bool:
        """Whether the batch must carry sentences of other objects."""
        return self.negative_weight > 0 and self.num_negatives > 0


class Calibrator(nn.Module):
    """The frozen judge: how well does what the map keeps of the image fit a sentence?"""

    def __init__(self, encoder: ClipEncoder, config: CalibrationConfig) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.config = config

    def train(self, mode: bool = True) -> "Calibrator":
        """Stay in evaluation mode, whatever is asked."""
        return super().train(False)

    def forward(
        self, response_logits: Float[Tensor, "expr h w"], batch: Batch, *, input_spec: InputSpec
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted calibration terms of the expressions' own maps.

        Args:
            response_logits: Own response of every expression, before ReLU.
            batch: Its images, sentences and negative sentences.
            input_spec: How the batch's images are normalised.

        Raises:
            ValueError: If the background term is on and the batch has no negatives.
        """
        config = self.config
        maps = upsample(response_logits, batch.images.shape[-2:]).sigmoid()
        # In bf16 a cosine near 1 is 1, and the logarithm of what is left to it infinite.
        kept = _at_least_fp32(self.embed_kept(maps, batch, input_spec=input_spec))
        terms = {}
        if config.positive_weight > 0:
            similarity = functional.cosine_similarity(kept, self._embed_texts(batch.token_ids))
            terms["calibration_positive_loss"] = config.positive_weight * positive_loss(similarity)
        if config.needs_negatives:
            if batch.negative_token_ids is None:
                raise ValueError("The background term needs negative sentences in the batch.")
            texts = self._embed_texts(batch.negative_token_ids.flatten(0, 1))
            similarity = functional.cosine_similarity(
                kept.unsqueeze(1), texts.unflatten(0, batch.negative_token_ids.shape[:2]), dim=-1
            )
            terms["calibration_negative_loss"] = config.negative_weight * negative_loss(
                similarity, config
            )
        return terms

    def embed_kept(
        self, maps: Float[Tensor, "expr height width"], batch: Batch, *, input_spec: InputSpec
    ) -> Float[Tensor, "expr embed"]:
        """Return the judge's embedding of every image times its map (equation 9).

        Args:
            maps: At the network's input resolution, in [0, 1].
            batch: Images that the maps belong to.
            input_spec: How the batch's images are normalised.
        """
        size = self.encoder.input_spec.image_size
        images = self._renormalise(_resize(batch.images, size), input_spec)
        kept = select_rows(images, batch.image_index) * _resize(maps.unsqueeze(1), size)
        return self.encoder.embed_images(kept)

    def _embed_texts(self, token_ids: Int[Tensor, "texts tokens"]) -> Float[Tensor, "texts embed"]:
        with torch.no_grad():
            return _at_least_fp32(self.encoder.embed_texts(token_ids))

    def _renormalise(
        self, images: Float[Tensor, "images 3 h w"], source: InputSpec
    ) -> Float[Tensor, "images 3 h w"]:
        if self.config.normalisation == "network":
            return images
        target = self.encoder.input_spec
        mean, std = _per_channel(images, source.mean), _per_channel(images, source.std)
        own_mean, own_std = _per_channel(images, target.mean), _per_channel(images, target.std)
        return (images * std + mean - own_mean) / own_std


def _at_least_fp32(embeddings: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))


def positive_loss(similarity: Float[Tensor, "expr"]) -> Float[Tensor, ""]:
    """Return -log S of the kept region and its own sentence (first term of equation 8)."""
    return -similarity.clamp(1e-4, 0.9999).log().mean()


def negative_loss(
    similarity: Float[Tensor, "expr negatives"], config: CalibrationConfig
) -> Float[Tensor, ""]:
    """Return -log(1 - S) of the kept region and others' sentences (second term of equation 8)."""
    clamped = similarity.clamp(min=0.0) if config.clamp_negatives else similarity
    per_negative = -(1 - clamped).log()
    reduced = per_negative.mean(1) if config.negative_reduction == "mean" else per_negative.sum(1)
    return reduced.mean()


def upsample(maps: Float[Tensor, "expr h w"], size: Sequence[int]) -> Float[Tensor, "expr _ _"]:
    """Bring maps to the network's input size, as released: before any activation."""
    height, width = size
    return resize(maps.unsqueeze(1), (height, width)).squeeze(1)


def _resize(images: Float[Tensor, "n c _ _"], size: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=True)


def _per_channel(like: Tensor, values: tuple[float, float, float]) -> Float[Tensor, "3 1 1"]:
    return like.new_tensor(values)[:, None, None]
