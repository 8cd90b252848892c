"""Self-training: later rounds of stage 2 learn from labels that the round before makes.

Relabels the training split with the mean of the last segmenter's maps over a referent's sentences,
competition and CRF, and trains that segmenter further; nothing here reads a mask of that split.
With ``--ceiling`` the annotated masks stay the targets: as many steps, for comparison.
"""

import functools

from torch import Tensor

from stages.labelling import Labelling, fill_store
from stages.rounds import Round, find_round, is_ceiling, label_settings
from stages.setup import Stage, start_stage
from stages.train_segmenter import train_round
from tris.batch import Batch
from tris.data.index import open_index
from tris.errors import InputError, exits_cleanly
from tris.pseudo.averaging import average_maps
from tris.segmenters.contract import Segmenter


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
            labelling = labelling_by_segmenter(stage, this)
            fill_store(stage, labelling, replaces="replace" in stage.switches)
        train_round(stage, this)
    stage.accelerator.end_training()


def labelling_by_segmenter(stage: Stage, this: Round) -> Labelling:
    """Return the segmenter of the round before at work on the training split.

    Raises:
        InputError: If there is none.
    """
    assert this.start is not None, "the first round learns from stage 1's labels"
    if not (this.start / "config.json").is_file():
        raise InputError(
            f"{this.start} holds no segmenter of round {this.number - 1} yet: run "
            "stages/train_segmenter.py first."
        )
    network = Segmenter.from_pretrained(this.start).requires_grad_(False)
    network.to(stage.accelerator.device)
    index = open_index(stage.folders.index, stage.config.data.train_split)
    label = stage.config.self_training.label
    return Labelling(
        directory=this.labels,
        settings=label_settings(stage, this),
        index=index,
        network=network,
        make_maps=functools.partial(
            average_maps, functools.partial(segment, network), index=index, label=label
        ),
        label=label,
        num_readers=this.training.num_workers,
        log=this.labels.with_name(f"{this.labels.name}_log"),
        used=f"{find_round(stage, this.number - 1).name}-{stage.config.group}:best",
        artifact=this.labels_name,
    )


def segment(network: Segmenter, batch: Batch) -> Tensor:
    """Return mask logits at the network's input size."""
    logits: Tensor = network(batch).mask_logits
    return logits


if __name__ == "__main__":
    main()
