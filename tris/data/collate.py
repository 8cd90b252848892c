"""Samples become a batch: every photograph once, every sentence once."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from tris.batch import IGNORE_INDEX, Batch, ExpressionSample


def collate(samples: Sequence[ExpressionSample], *, share_images: bool = True) -> Batch:
    """Put samples together; equal ``image_id`` shares the row of its first sample.

    With ``share_images=False`` every sample keeps an image row of its own (a random pair batch):
    the rows then do not depend on how a global batch is split over processes.

    Targets are None where no sample has one; a sample without one among others that have becomes
    all `IGNORE_INDEX`.

    Raises:
        ValueError: If there is no sample, or only some have negatives or an erased phrase.
    """
    if not samples:
        raise ValueError("A batch needs at least one sample.")
    keys = [s.image_id if share_images else i for i, s in enumerate(samples)]
    first: dict[int, ExpressionSample] = {}
    for key, sample in zip(keys, samples, strict=True):
        first.setdefault(key, sample)
    rows = {key: row for row, key in enumerate(first)}
    images = list(first.values())
    return Batch(
        images=torch.stack([sample.image for sample in images]),
        image_id=torch.tensor([sample.image_id for sample in images]),
        original_size=torch.tensor([sample.original_size for sample in images]),
        content_size=torch.tensor([sample.content_size for sample in images]),
        token_ids=torch.stack([sample.token_ids for sample in samples]),
        token_mask=torch.stack([sample.token_mask for sample in samples]),
        image_index=torch.tensor([rows[key] for key in keys]),
        referent_id=torch.tensor([sample.referent_id for sample in samples]),
        expression_id=torch.tensor([sample.expression_id for sample in samples]),
        text_id=torch.tensor([sample.text_id for sample in samples]),
        is_no_target=torch.tensor([sample.is_no_target for sample in samples]),
        group_index=torch.tensor([sample.group_index for sample in samples]),
        targets=_stack_targets(samples),
        negative_token_ids=_stack([sample.negative_token_ids for sample in samples]),
        negative_token_mask=_stack([sample.negative_token_mask for sample in samples]),
        erased_token_ids=_stack([sample.erased_token_ids for sample in samples]),
    )


def _stack_targets(
    samples: Sequence[ExpressionSample],
) -> UInt8[Tensor, "expr height width"] | None:
    known = [sample.target for sample in samples if sample.target is not None]
    if not known:
        return None
    nothing = torch.full_like(known[0], IGNORE_INDEX)
    return torch.stack([nothing if s.target is None else s.target for s in samples])


def _stack(tensors: list[Tensor | None]) -> Tensor | None:
    given = [tensor for tensor in tensors if tensor is not None]
    if not given:
        return None
    if len(given) < len(tensors):
        raise ValueError(
            "Either every sample of a batch has negatives (or an erased sentence) or none has."
        )
    return torch.stack(given)
