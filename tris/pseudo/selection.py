"""From the maps of all sentences to one map per referent; images go in with all their sentences."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tris.batch import Batch
from tris.data.index import Index, Referent
from tris.encoders.clip import ClipEncoder
from tris.pseudo.contest import Contest
from tris.pseudo.label import LabelConfig, normalise_map
from tris.pseudo.merging import cannot_tell_apart, margin_weights
from tris.pseudo.prms import PrmsConfig, batched_map_similarity, pick_positive_map
from tris.pseudo.rivals import (
    Kinship,
    find_kinship,
    join_alike,
    plan_contests,
    separate_contests,
)
from tris.response.calibration import upsample
from tris.response.response_net import ResponseNet


class Selection(NamedTuple):
    """What the judge made of one referent's maps.

    Attributes:
        referent_id: Official ``ref_id``.
        row: The chosen expression's row in the batch; of several that are merged, the first of
            the greatest weight.
        rows: All rows of the referent, in order.
        score: Cumulative similarity (equation 10); of merged maps, the margin of ``row``.
        weights: Of ``rows``; 1 and 0 where one is picked.
    """

    referent_id: int
    row: int
    rows: tuple[int, ...]
    score: float
    weights: tuple[float, ...]


class ChosenMap(NamedTuple):
    """The map that stands for one referent.

    Attributes:
        referent: Row of the index.
        position: Which of its sentences made the map, or most of it.
        score: Of `Selection`.
        response_logits: Before any activation, at network resolution, without padding: it covers
            the whole photograph.
    """

    referent: Referent
    position: int
    score: float
    response_logits: Float[np.ndarray, "content_height content_width"]


class ImageMaps(NamedTuple):
    """The referents of one image.

    Attributes:
        chosen: One map each, in the order of the batch.
        contests: Who competes with whom; places are those in ``chosen``.
    """

    chosen: list[ChosenMap]
    contests: tuple[Contest, ...]


class JudgedImage(NamedTuple):
    """What the networks say of one image, before anything is chosen.

    Attributes:
        places: Row of the index and position of each sentence.
        logits: One map per sentence, at the network's input size, before any activation.
        similarity: Of the judge; row = image under a map, column = sentence.
        content_size: Height and width of the part of the maps that shows the photograph.
    """

    places: list[tuple[int, int]]
    logits: Float[Tensor, "expr height width"]
    similarity: Float[Tensor, "expr expr"]
    content_size: Int[Tensor, "2"]


def select_in_batch(
    response_logits: Float[Tensor, "expr height width"],
    batch: Batch,
    judge: ClipEncoder,
    config: PrmsConfig,
) -> list[Selection]:
    """Return what PRMS picks for each referent of the batch, in order of appearance.

    Args:
        response_logits: At the network's input size, before any activation.
        batch: All sentences of each of its referents.
        judge: The frozen CLIP; it reads the batch's pixels and tokens as they are.
        config: Activation and pass size.

    Source:
        TRIS (arXiv 2308.14575), equation 10.
    """
    groups = group_rows(batch.referent_id.tolist())
    similarities = _similarities(response_logits, batch, judge, config, list(groups.values()))
    return [
        _pick(referent_id, rows, similarity.float())
        for (referent_id, rows), similarity in zip(groups.items(), similarities, strict=True)
    ]


def choose_maps(
    network: ResponseNet,
    judge: ClipEncoder,
    batches: Iterable[tuple[list[int], Batch]],
    index: Index,
    *,
    selection: PrmsConfig,
    label: LabelConfig,
) -> Iterator[ImageMaps]:
    """Yield the maps of one image after the other; each image and each sentence is encoded once.

    Args:
        network: Stage 1, in evaluation mode.
        judge: The frozen CLIP.
        batches: Running numbers of expressions, and the batch that holds them in that order;
            images come with all their sentences.
        index: Where the expressions come from.
        selection: How one map per referent is made.
        label: Says whether referents compete, and when they are the same object.
    """
    for numbers, batch in batches:
        with torch.inference_mode():
            logits = upsample(network(batch).response_logits.float(), batch.images.shape[-2:])
            if selection.method == "prms" and label.competition == "none":
                found = _choose_alone(logits, numbers, batch, judge, index, config=selection)
            else:
                judged = judge_images(logits, numbers, batch, judge, index, config=selection)
                found = [
                    choose_in_image(each, index, selection=selection, label=label)
                    for each in judged
                ]
        yield from found


def group_rows(names: Sequence[int]) -> dict[int, list[int]]:
    """Return the rows of each name, names in order of appearance."""
    groups: dict[int, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(name, []).append(row)
    return groups


def crop_to_content(
    maps: Float[Tensor, "maps height width"], content_size: Int[Tensor, "2"]
) -> Float[np.ndarray, "maps content_height content_width"]:
    """Return the part of the maps that shows the photograph."""
    height, width = content_size.tolist()
    cropped: np.ndarray = maps[:, :height, :width].cpu().numpy()
    return cropped


def weigh_maps(
    similarity: Float[Tensor, "expr expr"],
    places: Int[Tensor, "expr"],
    kinship: Kinship,
    referents: Sequence[Referent],
    *,
    config: PrmsConfig,
) -> list[Selection]:
    """Return one selection per referent of one image; rows are those of the image.

    Args:
        similarity: Row = image under a map, column = sentence; all of the image.
        places: The referent of each row, its number among ``referents``.
        kinship: Who is whose rival.
        referents: Of the image.
        config: Method and temperature.
    """
    rows_of = group_rows(places.tolist())
    if config.method == "prms":
        return [
            _pick(referents[place].referent_id, rows, similarity[rows][:, rows])
            for place, rows in rows_of.items()
        ]
    rivals = torch.from_numpy(kinship.rivals).to(places.device)[places][:, places]
    weights, margins = margin_weights(
        similarity,
        places,
        rivals=rivals,
        temperature=config.temperature,
        rival_weight=config.rival_weight,
    )
    selections = []
    for place, rows in rows_of.items():
        own = weights[rows]
        best = rows[int(own.argmax())]
        selections.append(
            Selection(
                referents[place].referent_id, best, tuple(rows), float(margins[best]),
                tuple(own.tolist()),
            )
        )  # fmt: skip
    return selections


def merge_maps(
    logits: Float[Tensor, "expr height width"], selection: Selection
) -> Float[Tensor, "height width"]:
    """Return the weighted mean of a referent's maps."""
    weights = logits.new_tensor(selection.weights)
    return torch.einsum("m,mhw->hw", weights, logits[list(selection.rows)])


def number_rows(groups: dict[int, list[int]], count: int) -> Int[Tensor, "rows"]:
    """Return for every row the number of its group: 0, 1, ... in the order of ``groups``."""
    places = torch.empty(count, dtype=torch.long)
    for place, rows in enumerate(groups.values()):
        places[rows] = place
    return places


def _choose_alone(
    logits: Float[Tensor, "expr height width"],
    numbers: list[int],
    batch: Batch,
    judge: ClipEncoder,
    index: Index,
    *,
    config: PrmsConfig,
) -> list[ImageMaps]:
    """Pick a map for every referent, as published."""
    images: dict[int, list[ChosenMap]] = {}
    for each in select_in_batch(logits, batch, judge, config):
        image = int(batch.image_index[each.row])
        row, position = index.expression_row(numbers[each.row])
        (chosen,) = crop_to_content(logits[each.row : each.row + 1], batch.content_size[image])
        images.setdefault(image, []).append(ChosenMap(index[row], position, each.score, chosen))
    return [ImageMaps(chosen, separate_contests(len(chosen))) for chosen in images.values()]


def judge_images(
    logits: Float[Tensor, "expr height width"],
    numbers: list[int],
    batch: Batch,
    judge: ClipEncoder,
    index: Index,
    *,
    config: PrmsConfig,
) -> list[JudgedImage]:
    """Hold the maps of each image of a batch against all its sentences.

    Args:
        logits: At the network's input size, before any activation.
        numbers: Running numbers of the batch's expressions.
        batch: Images with all their sentences.
        judge: The frozen CLIP.
        index: Where the expressions come from.
        config: Activation and pass size; nothing else is read.
    """
    images = group_rows(batch.image_index.tolist())
    similarities = _similarities(logits, batch, judge, config, list(images.values()))
    return [
        JudgedImage(
            [index.expression_row(numbers[row]) for row in rows],
            logits[rows],
            similarity.float(),
            batch.content_size[image],
        )
        for (image, rows), similarity in zip(images.items(), similarities, strict=True)
    ]


def choose_in_image(
    judged: JudgedImage, index: Index, *, selection: PrmsConfig, label: LabelConfig
) -> ImageMaps:
    """Let the referents of one image meet: in the choice of the maps, in the contests, or both.

    Args:
        judged: The image, under the activation of ``selection``.
        index: Where the expressions come from.
        selection: How one map per referent is made.
        label: Says whether referents compete, and when they are the same object.
    """
    similarity = judged.similarity
    groups = group_rows([row for row, _ in judged.places])
    referents = [index[row] for row in groups]
    kinship = find_kinship(referents, label.competing)
    owners = number_rows(groups, len(judged.places)).to(similarity.device)
    picks = weigh_maps(similarity, owners, kinship, referents, config=selection)
    maps = torch.stack([merge_maps(judged.logits, each) for each in picks])
    chosen = [
        ChosenMap(referent, judged.places[pick.row][1], pick.score, one)
        for referent, pick, one in zip(
            referents, picks, crop_to_content(maps, judged.content_size), strict=True
        )
    ]
    close = cannot_tell_apart(similarity, owners, tolerance=label.competing.judge_tolerance)
    return ImageMaps(chosen, contests_of(chosen, kinship, close.cpu().numpy(), label))


def contests_of(
    chosen: Sequence[ChosenMap],
    kinship: Kinship,
    tells_not_apart: Bool[np.ndarray, "referents referents"],
    label: LabelConfig,
) -> tuple[Contest, ...]:
    """Return who competes with whom in one image, now that the maps are known."""
    if label.competition == "none":
        return separate_contests(len(chosen))
    foregrounds = np.stack(
        [
            normalise_map(each.response_logits, label.normalisation) > label.foreground_threshold
            for each in chosen
        ]
    )
    return plan_contests(join_alike(kinship, foregrounds, tells_not_apart, label.competing))


def _pick(
    referent_id: int, rows: Sequence[int], similarity: Float[Tensor, "expr expr"]
) -> Selection:
    pick = pick_positive_map(similarity)
    weights = tuple(float(place == pick.position) for place in range(len(rows)))
    return Selection(referent_id, rows[pick.position], tuple(rows), pick.score, weights)


def _similarities(
    response_logits: Float[Tensor, "expr height width"],
    batch: Batch,
    judge: ClipEncoder,
    config: PrmsConfig,
    groups: list[list[int]],
) -> list[Tensor]:
    """Return one matrix per group of rows: all their maps against all their sentences."""
    order = torch.tensor([row for rows in groups for row in rows]).to(batch.image_index)
    return batched_map_similarity(
        response_logits[order],
        batch.images,
        judge.embed_texts(batch.token_ids[order]).float(),
        image_index=batch.image_index[order],
        maps_per_referent=[len(rows) for rows in groups],
        embed_images=judge.embed_images,
        image_size=judge.input_spec.image_size,
        config=config,
    )
