"""Would labels be better without what is unsure? Asked of the validation split.

    python -m benchmarks.unsure_pixels --run RUN                     labels of the first round
    python -m benchmarks.unsure_pixels --run RUN --maps segmenter    of the last round

Of pixels: if those whose winner has less than some probability after the common CRF were left out
of training, how many would they be, and how many of the wrong ones? Of referents: does the score
that a label is stored with, or its mean probability, tell the wrong labels (IoU below .5) from the
right ones? Area under the ROC curve; .5 is chance. Everything before labels are cut to one piece.
Images with one referent have no competition and are left out.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from benchmarks.label_cases import Case, Settings, make_cases, open_run, settings_of
from tris.data.index import Referent
from tris.data.masks import decode_mask
from tris.errors import InputError, exits_cleanly
from tris.pseudo.label_image import Competition

CONFIDENCES = (0.6, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Contested:
    """What came out of the competitions of some images.

    Attributes:
        confidence: Probability of each pixel's winner.
        is_wrong: Whether that pixel belongs to somebody else.
        iou: Of each label that is not empty.
        score: What it is stored with.
        sureness: Mean probability over the label.
    """

    confidence: Float[np.ndarray, "pixels"]
    is_wrong: Bool[np.ndarray, "pixels"]
    iou: Float[np.ndarray, "labels"]
    score: Float[np.ndarray, "labels"]
    sureness: Float[np.ndarray, "labels"]


def measure_contests(cases: Iterable[Case], settings: Settings) -> Contested:
    """Return what comes out of the competitions.

    Raises:
        InputError: If there are none.
    """
    confidence, is_wrong = [], []
    iou, score, sureness = [], [], []
    for case in cases:
        image = case.maps(settings)
        logits = np.stack([each.response_logits for each in image.chosen])
        masks = [_mask_of(each) for each in case.referents]
        for contest in image.contests:
            if len(contest.classes) == 1:
                continue
            merged = np.stack([logits[list(members)].mean(axis=0) for members in contest.classes])
            probabilities = Competition(merged, case.image, settings.label).run()
            winner, highest = probabilities.argmax(axis=0), probabilities.max(axis=0)
            owner = np.zeros_like(winner)
            for number, members in enumerate(contest.classes, start=1):
                owner[masks[members[0]]] = number
            for number, members in enumerate(contest.classes[: contest.num_labelled], start=1):
                label = winner == number
                for place in members if label.any() else ():
                    iou.append((masks[place] & label).sum() / (masks[place] | label).sum())
                    score.append(image.chosen[place].score)
                    sureness.append(highest[label].mean())
            confidence.append(highest.ravel())
            is_wrong.append((winner != owner).ravel())
    if not confidence:
        raise InputError("No image of the sample has referents that compete.")
    return Contested(
        confidence=np.concatenate(confidence), is_wrong=np.concatenate(is_wrong),
        iou=np.array(iou), score=np.array(score), sureness=np.array(sureness),
    )  # fmt: skip


def area_under_curve(
    is_right: Bool[np.ndarray, "labels"], value: Float[np.ndarray, "labels"]
) -> float:
    """Return how often a right label has a higher value than a wrong one; ties count half."""
    right, wrong = int(is_right.sum()), int((~is_right).sum())
    ranks = rankdata(value)[is_right].sum() - right * (right + 1) / 2
    return float(ranks / (right * wrong)) if right * wrong else float("nan")


def _mask_of(referent: Referent) -> Bool[np.ndarray, "height width"]:
    assert referent.mask is not None, "validation splits have masks"
    mask: np.ndarray = decode_mask(referent.mask) == 1
    return mask


@exits_cleanly
def main() -> None:
    """Print a table of pixels and a line on referents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--maps", choices=["stage1", "segmenter"], default="stage1")
    parser.add_argument("--images", type=int, default=80)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stage = open_run(arguments.run)
    settings = settings_of(stage.config, arguments.maps)
    cases = make_cases(stage, arguments.maps, job=None, split="val", count=arguments.images)
    found = measure_contests(cases, settings)
    num_wrong = max(1, int(found.is_wrong.sum()))
    print(f"{100 * found.is_wrong.mean():.2f} % of all pixels are wrong.")
    print("| left out below | % of pixels | % of these wrong | % of all wrong ones |")
    print("|---|---|---|---|")
    for confidence in CONFIDENCES:
        unsure = found.confidence < confidence
        wrong = int(found.is_wrong[unsure].sum())
        print(
            f"| {confidence} | {100 * unsure.mean():.2f} "
            f"| {100 * wrong / max(1, int(unsure.sum())):.1f} | {100 * wrong / num_wrong:.1f} |"
        )
    is_right = found.iou >= 0.5
    print(
        f"{len(is_right)} labels, {100 * (~is_right).mean():.1f} % wrong; area under the curve of "
        f"the score {area_under_curve(is_right, found.score):.2f}, of the mean probability "
        f"{area_under_curve(is_right, found.sureness):.2f}."
    )


if __name__ == "__main__":
    main()
