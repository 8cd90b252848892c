"""Which settings of merging and competition suit a data set? Chosen on its validation split.

    python -m benchmarks.competing_labels --run runs/seed0 runs/seed1 runs/seed2    labels, round 1
    python -m benchmarks.competing_labels --run runs/synthetic --maps segmenter     later rounds
    python -m benchmarks.competing_labels --run runs/synthetic --maps sentences     CRF at test

Takes the networks of one run, or of several that differ in their seed, and a sample of the images
of their validation splits, whose masks score the labels; no training image and no training mask is
looked at. The maps of later rounds are those of the segmenter that made the last round's labels
(the round before the last), the sentences' those of the last round; --job names another one. One
field after the other is varied, and the best value kept: a coordinate search from the settings of
the runs, whose degenerate labels count as they are (--competition says otherwise than they whether
labels compete at first); figures are the mean IoU over referents, of every run and all; of a single
one, of images of even number, of odd number, and all: a gain that is not in every column is noise.
Behind them the share of all labels that are wrong (IoU below .5) and of those that are nowhere near
or empty (0). Values are for a small CLIP on plain colours and for OpenAI's on photographs; --fields
picks some. One thread.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.label_cases import (
    ACTIVATIONS,
    Case,
    Settings,
    label_case,
    make_cases,
    open_run,
    settings_of,
)
from tris.data.masks import decode_mask
from tris.errors import InputError, exits_cleanly
from tris.pseudo.contest import Contest
from tris.pseudo.label_presets import with_kernels

Change = Callable[[Settings, Any], Settings]


def change_crf(name: str) -> Change:
    """Return a function that sets a field of the CRF, of the one alone and the common one."""

    def change(old: Settings, value: object) -> Settings:
        return replace(old, label=with_kernels(old.label, **{name: value}))

    return change


def set_merging(old: Settings, value: tuple[str, str, float, float]) -> Settings:
    """Set activation, method, temperature and weight of the rival."""
    activation, method, temperature, rival_weight = value
    changes: dict[str, Any] = {
        "activation": activation, "method": method, "temperature": temperature,
        "rival_weight": rival_weight,
    }  # fmt: skip
    return replace(old, selection=replace(old.selection, **changes))


def set_competition(old: Settings, value: tuple[str, float]) -> Settings:
    """Set competition and the background's logit."""
    competition, logit = value
    changes: dict[str, Any] = {"competition": competition}
    competing = replace(old.label.competing, background_logit=logit)
    return replace(old, label=replace(old.label, competing=competing, **changes))


def set_components(old: Settings, value: str) -> Settings:
    """Set which connected components of a label stay."""
    changes: dict[str, Any] = {"components": value}
    return replace(old, label=replace(old.label, **changes))


MERGING: dict[str, tuple[Change, Sequence[Any]]] = {
    "merging": (
        set_merging,
        [(a, "prms", 0.1, 1.0) for a in ACTIVATIONS]
        + [("sigmoid", "margin", t, 1.0) for t in (0.01, 0.02, 0.05, 0.1, 0.2)]
        + [("sigmoid", "margin", t, 0.0) for t in (0.01, 0.05, 0.1, 0.2)]
        + [("sigmoid", "margin", t, 0.5) for t in (0.005, 0.01, 0.1)]
        + [("sigmoid", "margin", 0.15, 0.75)]
        + [("relu", "margin", t, 1.0) for t in (0.01, 0.1)],
    ),
}
COMPETITION: dict[str, tuple[Change, Sequence[Any]]] = {
    "competition": (
        set_competition,
        [("none", 0.0), *(("image", b) for b in (-1.5, -1.0, -0.5, -0.25, 0.0, 0.5))],
    ),
}
COMPONENTS: dict[str, tuple[Change, Sequence[Any]]] = {
    "components": (set_components, ("all", "highest")),
}
KERNELS: dict[str, tuple[Change, Sequence[Any]]] = {
    "bilateral_srgb": (
        change_crf("bilateral_srgb"),
        (4.0, 6.0, 9.0, 12.0, 16.0, 20.0, 23.0, 26.0, 30.0, 34.0, 44.0),
    ),
    "bilateral_sxy": (change_crf("bilateral_sxy"), (8.0, 11.0, 14.0, 16.0, 18.0, 24.0)),
    "bilateral_compat": (change_crf("bilateral_compat"), (3.0, 5.0, 7.0, 10.0, 14.0, 20.0)),
    "steepness": (change_crf("steepness"), (0.7, 0.8, 1.0, 1.3, 1.5, 2.0)),
    "num_iterations": (change_crf("num_iterations"), (5, 10)),
}
SEARCH = {
    "stage1": COMPONENTS | MERGING | COMPETITION | KERNELS,
    "segmenter": COMPONENTS | COMPETITION | KERNELS,
    "sentences": COMPONENTS | KERNELS,
}


def score(cases: Sequence[Case], settings: Settings) -> np.ndarray:
    """Return the IoU of every referent's label, image after image."""
    values = []
    for case in cases:
        labels = label_case(case, settings)
        for place, referent in enumerate(case.referents):
            assert referent.mask is not None, "validation splits have masks"
            truth, label = decode_mask(referent.mask) == 1, labels[place].label
            assert label is not None, "labels are kept, whatever they are"
            union = np.count_nonzero(truth | (label == 1))
            values.append(np.count_nonzero(truth & (label == 1)) / max(union, 1))
    return np.array(values)


def count_joined(cases: Sequence[Case], settings: Settings) -> int:
    """Return how many referents share a class with another one."""
    contests: list[Contest] = [each for case in cases for each in case.maps(settings).contests]
    members = [group for contest in contests for group in contest.classes[: contest.num_labelled]]
    return sum(len(group) for group in members if len(group) > 1)


def choose_fields(
    maps: str, names: Sequence[str] | None
) -> dict[str, tuple[Change, Sequence[Any]]]:
    """Return what is searched of such maps, in the order of the names; all where there are none.

    Raises:
        InputError: If these maps have no such field.
    """
    known = SEARCH[maps]
    for name in names or ():
        if name not in known:
            raise InputError(
                f"--maps {maps} has no field {name!r} to search; it has {', '.join(known)}."
            )
    return {name: known[name] for name in names or known}


def search(
    parts: Mapping[str, Sequence[Case]],
    settings: Settings,
    fields: dict[str, tuple[Change, Sequence[Any]]],
) -> Settings:
    """Vary one field after the other; what is best so far stays unless a value beats it.

    Args:
        parts: What has a column of its own, by title; all referents count alike.
        settings: What is kept where nothing is better.
        fields: How each is set, and the values to try.
    """
    print(f"| field | value | {' | '.join(parts)} | all | below .5 | at 0 | ms per image |")
    print(f"|{'---|' * (len(parts) + 6)}")
    num_images = sum(map(len, parts.values()))

    def measure(candidate: Settings, name: str, value: object) -> float:
        start = time.perf_counter()
        iou = [score(cases, candidate) for cases in parts.values()]
        milliseconds = 1000 * (time.perf_counter() - start) / num_images
        iou.append(np.concatenate(iou))
        shares = [iou[-1] < 0.5, iou[-1] == 0]
        cells = " | ".join(f"{100 * each.mean():.1f}" for each in (*iou, *shares))
        print(f"| {name} | {value} | {cells} | {milliseconds:.0f} |", flush=True)
        return float(iou[-1].mean())

    best, best_iou = settings, measure(settings, "as given", "")
    for name, (change, values) in fields.items():
        start = best
        for value in values:
            candidate = change(start, value)
            iou = measure(candidate, name, value)
            if iou > best_iou:
                best, best_iou = candidate, iou
    return best


@exits_cleanly
def main() -> None:
    """Print the table and what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, nargs="+", required=True)
    parser.add_argument("--maps", choices=sorted(SEARCH), default="stage1")
    parser.add_argument("--job", help="the segmenter's folder in the run, as rounds/1/segmenter")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--fields", nargs="+", help="of the search; all where left out")
    parser.add_argument(
        "--competition", choices=["none", "image"], help="at first, if not as the run"
    )
    arguments = parser.parse_args()
    fields = choose_fields(arguments.maps, arguments.fields)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    stages = [open_run(run) for run in arguments.run]
    settings, *others = (settings_of(stage.config, arguments.maps) for stage in stages)
    if any(other != settings for other in others):
        raise InputError("The runs were made with different settings; a search starts from one.")
    parts = {
        str(stage.folders.run): list(
            make_cases(
                stage, arguments.maps, job=arguments.job, split=arguments.split,
                count=arguments.images,
            )
        )
        for stage in stages
    }  # fmt: skip
    cases = [case for part in parts.values() for case in part]
    if len(stages) == 1:
        parts = {"even images": cases[::2], "odd images": cases[1::2]}
    competition = arguments.competition or settings.label.competition
    label = replace(settings.label, degenerate="keep", competition=competition)
    settings = replace(settings, label=label)
    print(f"{len(cases)} images, {sum(len(case.referents) for case in cases)} referents, mean IoU")
    chosen = search(parts, settings, fields)
    print(f"\njoined as the same object: {count_joined(cases, chosen)} referents")
    for name, value in dataclasses.asdict(chosen).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
