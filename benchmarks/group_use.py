"""Does a group-wise segmenter use its group? Asked of a photograph among others, and by itself.

    python -m benchmarks.group_use --runs runs/gres0 runs/gres1 runs/gres2
    python -m benchmarks.group_use --table

Asks the GRSer that `python -m benchmarks.generalized` trained on each run, on the validation split
of image groups. A network whose group counts for nothing says the same both times. Figures that
exist are kept.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import generalized
from benchmarks.seeded_rows import REPOSITORY, plain_table, read_or_fill, row_parser
from configs import synthetic_gres
from stages.evaluate_generalized import generalized_splits
from stages.setup import Folders
from tris.errors import exits_cleanly
from tris.segmenters.contract import Segmenter

RESULTS = REPOSITORY / "docs" / "group_use.json"
SPLIT, TRAINED = "groups_val", "GRSer"
LARGEST_GROUP = {"in its group": 0, "by itself": 1}
METRICS = {
    "adapted_mean_iou": "adapted mIoU",
    "mean_iou": "mIoU of positives",
    "target_accuracy": "T-acc",
    "negative_recall": "R_neg",
}


@exits_cleanly
def main() -> None:
    """Ask what is missing, or print the table."""
    arguments = row_parser(__doc__, RESULTS).parse_args()
    results = read_or_fill(
        arguments, LARGEST_GROUP, measure,
        lambda name: {"largest_group": LARGEST_GROUP[name]},
        lambda name: generalized.row_experiment(TRAINED, rows=generalized.MAIN, share=1.0),
    )  # fmt: skip
    print(plain_table(results, LARGEST_GROUP, METRICS))


def measure(name: str, run: Path) -> dict[str, Any]:
    """Return the metrics of the split, fractions."""
    network = Segmenter.from_pretrained(generalized.model_of(TRAINED, run))
    spec = replace(network.input_spec, largest_group=LARGEST_GROUP[name])
    network.config = replace(network.config, input_spec=spec)
    (found,) = (
        generalized.score(network, index, protocol)
        for split, index, protocol in generalized_splits(synthetic_gres.get_config(), Folders(run))
        if split == SPLIT
    )
    return {key: found[key] for key in METRICS}


if __name__ == "__main__":
    main()
