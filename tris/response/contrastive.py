"""Contrastive image-text training: stage 0, only where no pretrained CLIP can be had."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from tris.batch import Batch
from tris.distributed import gather_rows
from tris.encoders.clip import ClipEncoder

LARGEST_SCALE = 100.0
"""CLIP (arXiv 2103.00020, section 2.5) clips the logit scale there."""


@dataclass(frozen=True)
class ContrastiveConfig:
    """Weights of the two terms.

    Attributes:
        sentence_weight: InfoNCE of the image and one of its sentences.
        scene_weight: InfoNCE of the image and the mean embedding of its sentences, one per object:
            what all of them together say.
    """

    sentence_weight: float = 1.0
    scene_weight: float = 1.0


def contrastive_losses(
    encoder: ClipEncoder, batch: Batch, config: ContrastiveConfig
) -> dict[str, Float[Tensor, ""]]:
    """Return the weighted InfoNCE terms over the images of all processes.

    Args:
        encoder: CLIP with its logit scale.
        batch: Images, each with one sentence per object; the first stands for "one sentence".
        config: Weights.

    Source:
        CLIP (arXiv 2103.00020), figure 3; the scene term is ours.
    """
    images = functional.normalize(encoder.embed_images(batch.images), dim=-1)
    texts = functional.normalize(encoder.embed_texts(batch.token_ids), dim=-1)
    scale = encoder.clip.logit_scale.exp().clamp(max=LARGEST_SCALE)
    first = _first_rows(batch.image_index, len(images))
    scenes = functional.normalize(_mean_per_image(texts, batch.image_index, len(images)), dim=-1)
    return {
        "sentence_loss": config.sentence_weight
        * _info_nce(images, texts[first], scale, batch.text_id[first]),
        "scene_loss": config.scene_weight * _info_nce(images, scenes, scale, batch.image_id),
    }


def _info_nce(
    images: Float[Tensor, "images dim"],
    texts: Float[Tensor, "images dim"],
    scale: Float[Tensor, ""],
    text_key: Int[Tensor, "images"],
) -> Float[Tensor, ""]:
    """Symmetric cross-entropy; texts with equal keys are no negatives of each other's images."""
    all_images, start = gather_rows(images)
    all_texts, _ = gather_rows(texts)
    all_keys, _ = gather_rows(text_key)
    own = start + torch.arange(len(images), device=images.device)
    same = text_key[:, None] == all_keys[None, :]
    same[torch.arange(len(own), device=own.device), own] = False
    to_texts = (scale * images @ all_texts.T).masked_fill(same, float("-inf"))
    to_images = (scale * texts @ all_images.T).masked_fill(same, float("-inf"))
    return (functional.cross_entropy(to_texts, own) + functional.cross_entropy(to_images, own)) / 2


def _first_rows(image_index: Int[Tensor, "expr"], num_images: int) -> Int[Tensor, "images"]:
    rows = torch.arange(len(image_index), device=image_index.device)
    first = image_index.new_full((num_images,), len(image_index))
    return first.scatter_reduce(0, image_index, rows, "amin")


def _mean_per_image(
    texts: Float[Tensor, "expr dim"], image_index: Int[Tensor, "expr"], num_images: int
) -> Float[Tensor, "images dim"]:
    total = texts.new_zeros((num_images, texts.shape[1])).index_add(0, image_index, texts)
    count = torch.bincount(image_index, minlength=num_images).to(texts)
    return total / count[:, None]
