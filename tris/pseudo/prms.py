"""Positive response map selection: of one referent's maps, the one its sentences agree on.

`batched_map_similarity` serves weighted merging (`tris.pseudo.merging`), too: its groups are then
all maps of an image instead of those of a referent.

The CLIP that judges is passed in as a function, and text features arrive ready made, so that a
caller embeds every sentence once and everything of several referents goes through CLIP together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from tris.errors import InputError

EmbedImages = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) of CLIP's native size -> embeddings (N, D), of any length."""


@dataclass(frozen=True)
class PrmsConfig:
    """How CLIP judges the maps of a referent, and what becomes of them.

    Attributes:
        method: ``prms`` = one map is picked, as published; ``margin`` = the maps are merged, each
            by how much better the image under it fits its own referent's sentences than the best
            fitting sentence of the image's other objects (`tris.pseudo.merging.margin_weights`).
        temperature: Of that softmax, in cosine; a CLIP whose cosines lie close together (those of
            OpenAI do) wants a smaller one than a small CLIP of one's own.
        rival_weight: How much the rival counts in ``margin``; 0 = the own score alone.
        activation: ``relu`` multiplies the image by the rectified response at its raw scale, as
            the released code does; ``sigmoid`` by the map that the calibration losses trained.
        maps_per_pass: Masked images that go through CLIP at once; bounds memory only.
    """

    activation: Literal["relu", "sigmoid"] = "relu"
    maps_per_pass: int = 64
    method: Literal["prms", "margin"] = "prms"
    temperature: float = 0.1
    rival_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.maps_per_pass < 1:
            raise InputError(f"maps_per_pass must be at least 1, not {self.maps_per_pass}.")
        if not self.temperature > 0:
            raise InputError(f"The temperature must be above 0, not {self.temperature}.")
        if self.rival_weight < 0:
            raise InputError(f"The rival's weight cannot be negative ({self.rival_weight}).")


class PositiveMap(NamedTuple):
    """What PRMS chose for one referent.

    Attributes:
        position: Which of the referent's maps.
        score: Its cumulative similarity, in [-M, M] for M sentences.
    """

    position: int
    score: float


def select_positive_map(
    response_maps: Float[Tensor, "expr h w"],
    similarity: Float[Tensor, "expr expr"],
) -> Float[Tensor, "h w"]:
    """Return the response map whose foreground agrees with the most expressions.

    Args:
        response_maps: One map per expression of one object, any scale.
        similarity: Cosine similarity in [-1, 1]; row = masked image, column = expression.

    Returns:
        The chosen map, scale unchanged. Ties go to the first expression.

    Raises:
        InputError: If there is no expression.

    Source:
        TRIS (arXiv 2308.14575) eq. 10.
    """
    return response_maps[pick_positive_map(similarity).position]


def pick_positive_map(similarity: Float[Tensor, "expr expr"]) -> PositiveMap:
    """Return which map wins, and its cumulative score (the sum of its row).

    The first of the greatest wins. The released search is the same down to scores of -1 and finds
    nothing below, where M >= 2 sentences of a small CLIP can well be; here the greatest still wins.

    Raises:
        InputError: If there is no expression, or a score is not a number.
    """
    if not len(similarity):
        raise InputError("A referent without expressions came to PRMS; it needs at least one.")
    scores = similarity.sum(dim=1).tolist()
    if any(math.isnan(score) for score in scores):
        raise InputError(f"PRMS got scores that are not numbers ({scores}); check the networks.")
    position = max(range(len(scores)), key=lambda index: scores[index])
    return PositiveMap(position, scores[position])


def map_similarity(
    response_logits: Float[Tensor, "expr h w"],
    image: Float[Tensor, "3 height width"],
    text_features: Float[Tensor, "expr embed"],
    *,
    embed_images: EmbedImages,
    image_size: tuple[int, int],
    config: PrmsConfig,
) -> Float[Tensor, "expr expr"]:
    """Return how well the image under each map of one referent fits each of its sentences.

    Args:
        response_logits: One map per sentence, before the activation.
        image: As normalised for CLIP.
        text_features: One per sentence, any length.
        embed_images: CLIP's image side.
        image_size: Height and width that it wants, pixels.
        config: Activation and pass size.

    Returns:
        Cosine similarity in [-1, 1]; row = masked image, column = sentence.

    Source:
        TRIS (arXiv 2308.14575) eq. 9; map and image are resized apart, corners aligned, and then
        multiplied, as released.
    """
    index = torch.zeros(len(response_logits), dtype=torch.long, device=response_logits.device)
    (similarity,) = batched_map_similarity(
        response_logits,
        image[None],
        text_features,
        image_index=index,
        maps_per_referent=[len(response_logits)],
        embed_images=embed_images,
        image_size=image_size,
        config=config,
    )
    return similarity


def batched_map_similarity(
    response_logits: Float[Tensor, "maps h w"],
    images: Float[Tensor, "images 3 height width"],
    text_features: Float[Tensor, "maps embed"],
    *,
    image_index: Int[Tensor, "maps"],
    maps_per_referent: Sequence[int],
    embed_images: EmbedImages,
    image_size: tuple[int, int],
    config: PrmsConfig,
) -> list[Float[Tensor, "expr expr"]]:
    """Return `map_similarity` of several referents of several images, in as few passes as fit.

    Args:
        response_logits: The maps of all referents, one after the other; map ``i`` was made by
            sentence ``i``.
        images: Each photograph once.
        text_features: One per sentence.
        image_index: Row of ``images`` that a map belongs to.
        maps_per_referent: How many maps each referent (or any other group whose maps are to meet
            each other's sentences) has, in order; they sum to ``maps``.
        embed_images: CLIP's image side.
        image_size: Height and width that it wants, pixels.
        config: Activation and pass size.

    Returns:
        One square matrix per referent.

    Raises:
        InputError: If ``maps_per_referent`` does not add up.
    """
    if sum(maps_per_referent) != len(response_logits):
        raise InputError(
            f"{sum(maps_per_referent)} maps were announced to PRMS (maps_per_referent), but "
            f"{len(response_logits)} came."
        )
    if not len(response_logits):
        return [text_features.new_zeros(0, 0) for _ in maps_per_referent]
    masked_features = _embed_masked_images(
        response_logits,
        images,
        image_index=image_index,
        embed_images=embed_images,
        image_size=image_size,
        config=config,
    )
    pairs = zip(
        functional.normalize(masked_features, dim=-1).split(list(maps_per_referent)),
        functional.normalize(text_features, dim=-1).split(list(maps_per_referent)),
        strict=True,
    )
    return [visual @ text.T for visual, text in pairs]


def _embed_masked_images(
    response_logits: Float[Tensor, "maps h w"],
    images: Float[Tensor, "images 3 height width"],
    *,
    image_index: Int[Tensor, "maps"],
    embed_images: EmbedImages,
    image_size: tuple[int, int],
    config: PrmsConfig,
) -> Float[Tensor, "maps embed"]:
    activate = torch.relu if config.activation == "relu" else torch.sigmoid
    images = _resize(images, image_size)
    features = []
    for start in range(0, len(response_logits), config.maps_per_pass):
        rows = slice(start, start + config.maps_per_pass)
        maps = _resize(activate(response_logits[rows])[:, None], image_size)
        features.append(embed_images(images[image_index[rows]] * maps))
    return torch.cat(features)


def _resize(
    tensor: Float[Tensor, "n channels _ _"], size: tuple[int, int]
) -> Float[Tensor, "n channels _ _"]:
    return functional.interpolate(tensor, size=size, mode="bilinear", align_corners=True)
