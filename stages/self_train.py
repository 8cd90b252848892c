"""Self-training: later rounds of stage 2 learn from labels that the round before makes.

Relabels the training split (`stages.relabel`) with the mean of the last segmenter's maps over a
referent's sentences, competition and CRF, and trains that segmenter further; nothing here reads a
mask of that split. With ``--ceiling`` the annotated masks stay the targets: as many steps, for
comparison.
"""

from stages.relabel import relabel
from stages.rounds import find_round, is_ceiling
from stages.setup import start_stage
from stages.train_segmenter import train_round
from tris.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Run every round but the first; finished labels and trainings are left, begun ones go on."""
    stage = start_stage(
        "Stage 2, later rounds: relabel with the segmenter, train it further. --replace: also "
        "where there are labels of other weights or settings; --ceiling: on annotated masks.",
        training="segmenter.training",
        switches=["ceiling", "replace"],
    )
    for number in range(2, stage.config.segmenter.rounds + 1):
        this = find_round(stage, number)
        if not is_ceiling(stage):
            relabel(stage, this)
        train_round(stage, this)
    stage.accelerator.end_training()


if __name__ == "__main__":
    main()
