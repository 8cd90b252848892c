"""Maps of later rounds: the mean of what a segmenter says to all sentences of a referent."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tris.batch import Batch
from tris.data.index import Index
from tris.pseudo.crf import SMALLEST_PROBABILITY
from tris.pseudo.label import LabelConfig
from tris.pseudo.rivals import find_kinship, overlaps
from tris.pseudo.selection import ChosenMap, ImageMaps, contests_of, crop_to_content, group_rows

Segment = Callable[[Batch], Tensor]
"""Mask logits ``expr height width`` at the size of the network's input."""


def average_maps(
    segment: Segment,
    batches: Iterable[tuple[list[int], Batch]],
    index: Index,
    *,
    label: LabelConfig,
) -> Iterator[ImageMaps]:
    """Yield the maps of one image after the other.

    A referent's map is the mean of its sentences' probabilities (sigmoid of the mask logits), given
    as the logit of that mean: a vote in which no sentence counts more than one. `ChosenMap.score`
    is the mean IoU of the single masks with the mask of the mean (do the sentences agree?),
    `ChosenMap.position` the sentence whose IoU is greatest.

    Two referents that share neither sentences nor ids are the same object if their maps overlap and
    the masks of single sentences do so, too, in the mean over all pairs of a sentence of one and a
    sentence of the other (`CompetitionConfig.map_overlap` for both).

    Args:
        segment: The last round's network, in evaluation mode.
        batches: Running numbers of expressions, and the batch that holds them in that order;
            images come with all their sentences.
        index: Where the expressions come from.
        label: Says whether referents compete, and when they are the same object.
    """
    for numbers, probabilities in ask_images(segment, batches):
        yield average_in_image(probabilities, numbers, index, label=label)


def ask_images(
    segment: Segment, batches: Iterable[tuple[list[int], Batch]]
) -> Iterator[tuple[list[int], Float[np.ndarray, "expr height width"]]]:
    """Yield, image after image, the running numbers and the probabilities of all its sentences.

    The probabilities cover the photograph, without padding.
    """
    for numbers, batch in batches:
        with torch.inference_mode():
            probabilities = segment(batch).float().sigmoid()
        for image, rows in group_rows(batch.image_index.tolist()).items():
            maps = crop_to_content(probabilities[rows], batch.content_size[image])
            yield [numbers[row] for row in rows], maps


def average_in_image(
    probabilities: Float[np.ndarray, "expr height width"],
    numbers: list[int],
    index: Index,
    *,
    label: LabelConfig,
) -> ImageMaps:
    """Return the maps of one image, of what `ask_images` says of it; see `average_maps`."""
    places = [index.expression_row(number) for number in numbers]
    groups = group_rows([row for row, _ in places])
    means = np.stack([probabilities[rows].mean(axis=0) for rows in groups.values()])
    masks = np.concatenate([means > 0.5, probabilities > 0.5])
    iou = overlaps(masks)[:, len(means) :]
    chosen = []
    for number, (row, own) in enumerate(groups.items()):
        agreement = iou[number, own]
        best = places[own[int(agreement.argmax())]][1]
        chosen.append(ChosenMap(index[row], best, float(agreement.mean()), _logit(means[number])))
    kinship = find_kinship([each.referent for each in chosen], label.competing)
    alike = _masks_agree(iou[len(means) :], list(groups.values()), label.competing.map_overlap)
    return ImageMaps(chosen, contests_of(chosen, kinship, alike, label))


def _masks_agree(
    iou: Float[np.ndarray, "expr expr"], groups: list[list[int]], least: float
) -> Bool[np.ndarray, "referents referents"]:
    means = [[iou[np.ix_(one, other)].mean() for other in groups] for one in groups]
    return np.array(means) >= least


def _logit(probability: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    p = probability.astype(np.float64).clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    logit: np.ndarray = np.log(p / (1 - p)).astype(np.float32)
    return logit
