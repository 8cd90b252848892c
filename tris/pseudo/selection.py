"""PRMS over a batch: images with all their sentences go in, one map per referent comes out."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tris.batch import Batch
from tris.encoders.clip import ClipEncoder
from tris.pseudo.prms import PrmsConfig, batched_map_similarity, pick_positive_map


class Selection(NamedTuple):
    """What PRMS chose for one referent.

    Attributes:
        referent_id: Official ``ref_id``.
        row: The chosen expression's row in the batch.
        rows: All rows of the referent, in order.
        score: Cumulative similarity (equation 10).
    """

    referent_id: int
    row: int
    rows: tuple[int, ...]
    score: float


def select_in_batch(
    response_logits: Float[Tensor, "expr height width"],
    batch: Batch,
    judge: ClipEncoder,
    config: PrmsConfig,
) -> list[Selection]:
    """Return one selection per referent of the batch, in order of appearance.

    Args:
        response_logits: At the network's input size, before any activation.
        batch: All sentences of each of its referents.
        judge: The frozen CLIP; it reads the batch's pixels and tokens as they are.
        config: Activation and pass size.

    Source:
        TRIS (arXiv 2308.14575), equation 10.
    """
    groups: dict[int, list[int]] = {}
    for row, referent_id in enumerate(batch.referent_id.tolist()):
        groups.setdefault(referent_id, []).append(row)
    order = torch.tensor([row for rows in groups.values() for row in rows])
    order = order.to(batch.image_index)
    similarities = batched_map_similarity(
        response_logits[order],
        batch.images,
        judge.embed_texts(batch.token_ids[order]).float(),
        image_index=batch.image_index[order],
        maps_per_referent=[len(rows) for rows in groups.values()],
        embed_images=judge.embed_images,
        image_size=judge.input_spec.image_size,
        config=config,
    )
    picks = [pick_positive_map(similarity.float()) for similarity in similarities]
    return [
        Selection(referent_id, rows[pick.position], tuple(rows), pick.score)
        for (referent_id, rows), pick in zip(groups.items(), picks, strict=True)
    ]
