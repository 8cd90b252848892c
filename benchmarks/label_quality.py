"""How good are the labels that a run has learned from? Scored afterwards.

    python benchmarks/label_quality.py --run runs/synthetic

Compares the label stores of every round with the masks of the training split, which are in
``RUN/index_with_masks`` and which no text-only training opens: a look back, not a means to choose
settings (`benchmarks/competing_labels.py` does that on the validation split). Mean IoU over
referents; ignored pixels count as background, dropped referents as 0.
"""

import argparse
from pathlib import Path

import numpy as np

from tris.data.index import Index, open_index
from tris.data.masks import decode_mask
from tris.pseudo.store import LabelStore, open_label_store


def score(store: LabelStore, index: Index, every: int) -> np.ndarray:
    """Return the IoU of each ``every``-th referent's label."""
    values = []
    for row in range(0, len(index), every):
        referent = index[row]
        if referent.is_no_target:
            continue
        assert referent.mask is not None, "the index with masks has masks"
        truth = decode_mask(referent.mask) == 1
        label = store.get(index.manifest.dataset, referent.referent_id)
        found = np.zeros_like(truth) if label is None else label == 1
        values.append((truth & found).sum() / max((truth | found).sum(), 1))
    return np.array(values)


def main() -> None:
    """Print one row per store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--every", type=int, default=1, help="score a part of the referents")
    arguments = parser.parse_args()
    index = open_index(arguments.run / "index_with_masks", arguments.split)
    print("| labels | referents | mean IoU | above .5 |\n|---|---|---|---|")
    rounds = sorted((arguments.run / "rounds").glob("*/labels*/manifest.json"))
    for path in [arguments.run / "labels" / "manifest.json", *rounds]:
        iou = score(open_label_store(path.parent), index, arguments.every)
        name = path.parent.relative_to(arguments.run)
        print(f"| {name} | {len(iou)} | {100 * iou.mean():.1f} | {100 * (iou > 0.5).mean():.1f} |")


if __name__ == "__main__":
    main()
