"""Do place words count? What swapping them does to sentence features and to predictions.

    python benchmarks/place_words.py --model RUN/segmenter/model --index RUN/index --split val

Takes the model directory of a CLIP, of stage 1 or of any segmenter, and a split whose index has
masks. Every sentence with a side in it is read twice, as it is and with the side swapped:

- features: distance of the two sentence features (unit length, so from 0 to 2; a CLIP or a network
  with one), beside that of sentences of two referents of one image;
- moved: how far the peak of the prediction goes, pixels of the photograph (not for a bare CLIP);
- other side: of sentences that have a mirror object, how many move the peak from the one side of
  the middle between the two objects to the other; mirrored: how many put it into the mirror object.

The mirror object of "star on the left" is the image's referent farthest to the right of that star
of which the remaining words ("star") are said, too, before any relation: "circle below the star" is
said of no star. Relations ("left of", "above") have no mirror object, and ranks ("second from the
left") are left out. Words that mean no side ("right behind") are told by the rule of
`tris.data.mirror`.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from tris.cli.inference import MaskNetwork, predict
from tris.data.images import read_photograph
from tris.data.index import Index, Referent, open_index
from tris.data.masks import decode_mask
from tris.data.mirror import mirror_sentence
from tris.data.tokens import Tokenizer, build_tokenizer, normalize
from tris.encoders.clip import ClipEncoder
from tris.model_directory import PretrainedModel
from tris.response.response_net import ResponseNet
from tris.segmenters.contract import Segmenter

HORIZONTAL = {"left": "right", "leftmost": "rightmost"}
VERTICAL = {"top": "bottom", "topmost": "lowest", "upper": "lower", "above": "below"}
RELATIONS = (("left", "of"), ("right", "of"), ("above",), ("below",), ("between",), ("next", "to"))
RANK = re.compile(
    r"\b(?:first|second|third|fourth|fifth|sixth|last|\d+(?:st|nd|rd|th))\b", re.IGNORECASE
)
SENTENCES_PER_BATCH = 256
GENERIC = {"thing", "object", "one", "the", "a", "an", "of", "in", "on", "at", "to", "side"}


class Swap(NamedTuple):
    """A sentence and the one with the other side.

    Attributes:
        pair: Which words, as printed.
        axis: 0 = x, 1 = y.
        sign: 1 = the swapped one means larger coordinates.
        sentence: As written.
        swapped: The other.
        is_relation: Whether the side is one of another object.
    """

    pair: str
    axis: int
    sign: int
    sentence: str
    swapped: str
    is_relation: bool


class Finding(NamedTuple):
    """What a swap did.

    Attributes:
        pair: Which words.
        moved: Way of the peak, pixels.
        crossed: Whether it went from the own side of the middle between the object and its mirror
            object to the other; None = there is no mirror object.
        is_in_mirror: Whether it ended in the mirror object.
    """

    pair: str
    moved: float
    crossed: bool | None
    is_in_mirror: bool


def find_swap(sentence: str) -> Swap | None:
    """Return the swap of a sentence with exactly one side in it and no rank, or None."""
    if RANK.search(sentence):
        return None
    words = sentence.split()
    found = [
        (number, axis, one, other, sign)
        for number, word in enumerate(words)
        for axis, table in enumerate((HORIZONTAL, VERTICAL))
        for first, second in table.items()
        for one, other, sign in ((first, second, 1), (second, first, -1))
        if word == one
    ]
    if len(found) != 1:
        return None
    number, axis, one, other, sign = found[0]
    swapped = " ".join([*words[:number], other, *words[number + 1 :]])
    if axis == 0 and mirror_sentence(sentence) != swapped:
        return None
    is_relation = one in ("above", "below") or words[number + 1 : number + 2] == ["of"]
    return Swap("/".join(sorted((one, other))), axis, sign, sentence, swapped, is_relation)


def find_mirror(swap: Swap, own: Referent, others: list[Referent]) -> Referent | None:
    """Return the referent that the swapped sentence may mean, or None."""
    if swap.is_relation:
        return None
    kept = set(normalize(swap.sentence).split()) & set(normalize(swap.swapped).split())
    content = kept - GENERIC
    start = center(own)[swap.axis] * swap.sign
    fitting = [
        other
        for other in others
        if content <= {word for each in other.sentences for word in words_of_itself(each)}
        and center(other)[swap.axis] * swap.sign > start
    ]
    return max(fitting, key=lambda each: center(each)[swap.axis] * swap.sign, default=None)


def words_of_itself(sentence: str) -> list[str]:
    """Return the words before the first relation: those behind it are of another object."""
    words = normalize(sentence).split()
    ends = (
        place
        for place in range(len(words))
        if any(tuple(words[place : place + len(each)]) == each for each in RELATIONS)
    )
    return words[: next(ends, len(words))]


def center(referent: Referent) -> tuple[float, float]:
    """Return x, y of the middle of a referent's mask, pixels."""
    assert referent.mask is not None
    ys, xs = np.nonzero(decode_mask(referent.mask))
    return (float(xs.mean()), float(ys.mean())) if len(xs) else (0.0, 0.0)


def images_of(referents: Iterable[Referent]) -> Iterator[list[Referent]]:
    """Yield the referents of each image, wherever they stand; images in order of their first."""
    images: dict[int, list[Referent]] = {}
    for referent in referents:
        images.setdefault(referent.image_id, []).append(referent)
    yield from images.values()


def probe(
    network: MaskNetwork, tokenizer: Tokenizer, index: Index, images: Sequence[list[Referent]]
) -> Iterator[Finding]:
    """Predict every swap of the images' sentences."""
    for referents in images:
        cases = [(swap, own) for own in referents for swap in map(find_swap, own.sentences) if swap]
        if not cases:
            continue
        photograph = read_photograph(
            index.image_path(referents[0]), is_turned=referents[0].is_turned
        )
        texts = [text for swap, _ in cases for text in (swap.sentence, swap.swapped)]
        peaks = [each.peak for each in predict(network, tokenizer, photograph, expressions=texts)]
        for row, (swap, own) in enumerate(cases):
            before, after = peaks[2 * row], peaks[2 * row + 1]
            others = [each for each in referents if each is not own]
            yield judge(swap, own, find_mirror(swap, own, others), before=before, after=after)


def judge(
    swap: Swap,
    own: Referent,
    mirror: Referent | None,
    *,
    before: tuple[int, int],
    after: tuple[int, int],
) -> Finding:
    """Say where the peak went."""
    moved = float(np.hypot(after[0] - before[0], after[1] - before[1]))
    if mirror is None:
        return Finding(swap.pair, moved, None, is_in_mirror=False)
    middle = (center(own)[swap.axis] + center(mirror)[swap.axis]) / 2
    crossed = before[swap.axis] * swap.sign < middle * swap.sign < after[swap.axis] * swap.sign
    assert mirror.mask is not None
    return Finding(swap.pair, moved, crossed, bool(decode_mask(mirror.mask)[after[1], after[0]]))


@torch.inference_mode()
def feature_distances(
    network: PretrainedModel, tokenizer: Tokenizer, images: Sequence[list[Referent]]
) -> dict[str, float] | None:
    """Return the mean distance of sentence features per pair, and between referents."""
    if isinstance(network, ResponseNet):
        embed = network.project_texts
    else:
        clip = network if isinstance(network, ClipEncoder) else getattr(network, "encoder", None)
        if not isinstance(clip, ClipEncoder):
            return None
        embed = clip.embed_texts
    sentences = [text for image in images for each in image for text in each.sentences]
    swaps = [swap for swap in map(find_swap, sentences) if swap]
    names = [swap.pair for swap in swaps]
    pairs = [(swap.sentence, swap.swapped) for swap in swaps]
    for first, second, *_ in (image for image in images if len(image) > 1):
        names.append("two referents")
        pairs.append((first.sentences[0], second.sentences[0]))
    distances: list[float] = []
    for start in range(0, len(pairs), SENTENCES_PER_BATCH):
        sides = zip(*pairs[start : start + SENTENCES_PER_BATCH], strict=True)
        one, other = (
            functional.normalize(embed(tokenizer(list(side))[0]).float(), dim=-1) for side in sides
        )
        distances += (one - other).norm(dim=-1).tolist()
    grouped: dict[str, list[float]] = {}
    for name, distance in zip(names, distances, strict=True):
        grouped.setdefault(name, []).append(distance)
    return {name: float(np.mean(values)) for name, values in grouped.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, help="at most so many; default: all")
    arguments = parser.parse_args()
    network = PretrainedModel.from_pretrained(arguments.model).eval()
    tokenizer = build_tokenizer(network.input_spec.tokenizer, assets=network.assets)
    index = open_index(arguments.index, arguments.split)
    images = list(islice(images_of(index), arguments.images))
    distances = feature_distances(network, tokenizer, images) or {}
    findings: list[Finding] = []
    if isinstance(network, Segmenter | ResponseNet):
        findings = list(probe(network, tokenizer, index, images))
    if not distances:
        print("No distances: only CLIP towers and stage 1 have sentence features.")
    print("| words | sentences | features | moved | with mirror | other side | mirrored |")
    print("|---|---|---|---|---|---|---|")
    for pair in sorted({*distances, *(finding.pair for finding in findings)}):
        print_row(pair, [each for each in findings if each.pair == pair], distances.get(pair))
    print_row("all", findings, None)


def print_row(name: str, findings: list[Finding], distance: float | None) -> None:
    """Print one row; shares in percent."""
    mirrored = [each for each in findings if each.crossed is not None]
    cells = [
        name,
        str(len(findings)),
        "-" if distance is None else f"{distance:.3f}",
        f"{np.mean([each.moved for each in findings]):.1f}" if findings else "-",
        str(len(mirrored)),
        f"{100 * np.mean([bool(each.crossed) for each in mirrored]):.1f}" if mirrored else "-",
        f"{100 * np.mean([each.is_in_mirror for each in mirrored]):.1f}" if mirrored else "-",
    ]
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
