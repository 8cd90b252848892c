"""PRMS over a batch: images with all their sentences go in, one map per referent comes out."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tris.batch import Batch
from tris.data.index import Index, Referent
from tris.encoders.clip import ClipEncoder
from tris.pseudo.prms import PrmsConfig, batched_map_similarity, pick_positive_map
from tris.response.calibration import upsample
from tris.response.response_net import ResponseNet


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


class ChosenMap(NamedTuple):
    """The map that stands for one referent.

    Attributes:
        referent: Row of the index.
        position: Which of its sentences made the map.
        score: Cumulative similarity.
        response_logits: Before any activation, at network resolution, without padding: it covers
            the whole photograph.
    """

    referent: Referent
    position: int
    score: float
    response_logits: Float[np.ndarray, "content_height content_width"]


def choose_maps(
    network: ResponseNet,
    judge: ClipEncoder,
    config: PrmsConfig,
    batches: Iterable[tuple[list[int], Batch]],
    index: Index,
) -> Iterator[ChosenMap]:
    """Yield one map per referent; each image and each sentence is encoded once.

    Args:
        network: Stage 1, in evaluation mode.
        judge: The frozen CLIP.
        config: Activation and pass size.
        batches: Running numbers of expressions, and the batch that holds them in that order; a
            referent's sentences are never split.
        index: Where the expressions come from.
    """
    for numbers, batch in batches:
        with torch.inference_mode():
            logits = upsample(network(batch).response_logits.float(), batch.images.shape[-2:])
            selections = select_in_batch(logits, batch, judge, config)
        for selection in selections:
            row, position = index.expression_row(numbers[selection.row])
            height, width = batch.content_size[batch.image_index[selection.row]].tolist()
            chosen = logits[selection.row, :height, :width].cpu().numpy()
            yield ChosenMap(index[row], position, selection.score, chosen)
