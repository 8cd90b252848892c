"""The labels of later rounds: what the segmenter of the round before says to the training split.

`stages/self_train.py` makes them itself where they are missing. Made here they can be shared among
more processes than are to train: labels do not depend on their number, weights do.
"""

import functools

from torch import Tensor

from stages.labelling import Labelling, fill_store
from stages.rounds import Round, find_round, label_settings
from stages.setup import Stage, on_device, start_stage
from tris.batch import Batch
from tris.data.index import open_index
from tris.errors import InputError, exits_cleanly
from tris.pseudo.averaging import average_maps
from tris.segmenters.contract import Segmenter


@exits_cleanly
def main() -> None:
    """Make the labels of every later round whose segmenter before it has been trained."""
    stage = start_stage(
        "Relabel the training split with the segmenter of the round before. --replace: also where "
        "there are labels of other weights or settings.",
        training="segmenter.training",
        switches=["replace"],
    )
    for number in range(2, stage.config.segmenter.rounds + 1):
        this = find_round(stage, number)
        if this.start is not None and (this.start / "config.json").is_file():
            relabel(stage, this)
    stage.accelerator.end_training()


def relabel(stage: Stage, this: Round) -> None:
    """Make the labels of a later round that are missing.

    Raises:
        InputError: If there is no segmenter of the round before.
    """
    labelling = labelling_by_segmenter(stage, this)
    fill_store(stage, labelling, replaces="replace" in stage.switches)


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
    network = on_device(Segmenter.from_pretrained(this.start).requires_grad_(False), stage)
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
