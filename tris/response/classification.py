"""The classification loss: which sentences belong to which image (TRIS, section 3.3)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tris.batch import PairResponses


@dataclass(frozen=True)
class ClassificationConfig:
    """How responses become image scores, and which texts count as negatives.

    Attributes:
        weight: lambda of the total loss (section 4.1).
        focal_power: Exponent p of the size term.
        focal_offset: Offset inside its logarithm.
        background_logit: Constant competitor of the texts inside the size term's softmax.
        same_image: What a text about another object of the same image is that stands in the batch
            with another copy of the image (random pairs): ``ignore``; ``negative`` as in the
            released code (the paper takes negatives "from other images" only); or ``positive``. In
            an image-wise batch all sentences of an image stand with it and are positives: the score
            asks what is in the image, and all its referents are.
        equal_texts_are_negatives: The released code takes a sentence that is equal to, or about
            the same object as, the image's own one for a negative.
        sentences_of_one_referent_compete: Whether the size term sets sentences of one referent
            against each other, as any other texts. In random pairs (paper) a referent has one
            sentence, so it makes no difference there.
    """

    weight: float = 5.0
    focal_power: float = 3.0
    focal_offset: float = 0.01
    background_logit: float = 1.0
    same_image: Literal["ignore", "negative", "positive"] = "ignore"
    equal_texts_are_negatives: bool = False
    sentences_of_one_referent_compete: bool = True


def score_images(
    logits: Float[Tensor, "images texts h w"],
    config: ClassificationConfig,
    *,
    referent_id: Int[Tensor, "texts"] | None = None,
) -> Float[Tensor, "images texts"]:
    """Return the image-level score of every text.

    Maximum + mean + a term <= 0 that is small where the text wins few pixels against the other
    texts and a constant background.

    Args:
        logits: Responses of every image to every text.
        config: Form of the size term.
        referent_id: What each text is about; read only where sentences of one referent are not to
            compete.

    Source:
        TRIS equation 6; the size term is that of Araslanov and Roth (CVPR 2020).
    """
    pixels = logits.flatten(2)
    if config.sentences_of_one_referent_compete or referent_id is None:
        background = torch.full_like(pixels[:, :1], config.background_logit)
        share = torch.cat([background, pixels], dim=1).softmax(dim=1)[:, 1:].mean(dim=-1)
    else:
        share = _share_against_other_referents(pixels, referent_id, config).mean(dim=-1)
    size_term = (1 - share) ** config.focal_power * (config.focal_offset + share).log()
    return pixels.mean(dim=-1) + pixels.amax(dim=-1) + size_term


def _share_against_other_referents(
    pixels: Float[Tensor, "images texts pixels"],
    referent_id: Int[Tensor, "texts"],
    config: ClassificationConfig,
) -> Float[Tensor, "images texts pixels"]:
    """Return each text's softmax against background, itself and texts about other referents."""
    pixels = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    largest = pixels.amax(dim=1, keepdim=True).clamp(min=config.background_logit).detach()
    weight = (pixels - largest).exp()
    competes = referent_id[:, None] != referent_id[None, :]
    competes.fill_diagonal_(True)
    rivals = competes.to(weight) @ weight
    return weight / (rivals + (config.background_logit - largest).exp())


def classification_loss(pairs: PairResponses, config: ClassificationConfig) -> Float[Tensor, ""]:
    """Return the multilabel soft-margin loss of images against texts, in nats.

    Args:
        pairs: Responses of this process's images to all texts.
        config: Scores and negatives.

    Source:
        TRIS equation 7.
    """
    scores = score_images(pairs.logits, config, referent_id=pairs.referent_id)
    positives, counted = _sort_texts(pairs, config)
    per_pair = functional.binary_cross_entropy_with_logits(
        scores, positives.to(scores), reduction="none"
    )
    counts = counted.sum(dim=1).clamp(min=1)
    return ((per_pair * counted).sum(dim=1) / counts).mean()


def _sort_texts(
    pairs: PairResponses, config: ClassificationConfig
) -> tuple[Bool[Tensor, "images texts"], Bool[Tensor, "images texts"]]:
    """Return which pairs are positive, and which count at all."""
    own = pairs.is_own
    same_image = pairs.image_id[:, None] == pairs.text_image_id[None, :]
    equal = (own.float() @ _alike(pairs).float() > 0) & ~own
    ignored = torch.zeros_like(own)
    positives = own
    if config.same_image == "ignore":
        ignored = ignored | (same_image & ~own)
    elif config.same_image == "positive":
        positives = positives | same_image
    if not config.equal_texts_are_negatives:
        ignored = ignored | (equal & ~positives)
    return positives, ~ignored


def _alike(pairs: PairResponses) -> Bool[Tensor, "texts texts"]:
    """Return which texts are equal or about the same object."""
    same_text = pairs.text_id[:, None] == pairs.text_id[None, :]
    return same_text | (pairs.referent_id[:, None] == pairs.referent_id[None, :])
