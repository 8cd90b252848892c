"""From response maps to the label store: the judge chooses or merges maps, the CRF sharpens them.

Goes by image: it is encoded once for all its sentences, its referents' maps meet the judge
together, the CRF runs in worker processes meanwhile (`stages.labelling`).
"""

import functools

from stages.label_settings import wanted_labels
from stages.labelling import Labelling, check_components, fill_store
from stages.setup import Stage, find_stage1, load_judge, on_device, start_stage, with_own_clip
from tris.data.index import open_index
from tris.errors import exits_cleanly
from tris.pseudo.selection import choose_maps
from tris.response.response_net import ResponseNet


@exits_cleanly
def main() -> None:
    """Fill ``RUN/labels``; a finished store is left as it is, a begun one goes on.

    A store of other weights or settings is refused; with ``--replace`` it is made anew.
    """
    stage = start_stage(
        "Make pseudo-labels; --replace: also where there are some of other weights or settings.",
        switches=["replace"],
    )
    labelling = labelling_by_stage1(stage)
    if stage.config.segmenter.rounds > 1:
        check_components(stage.config.self_training.label, labelling.index)
    fill_store(stage, labelling, replaces="replace" in stage.switches)
    stage.accelerator.end_training()


def labelling_by_stage1(stage: Stage) -> Labelling:
    """Return stage 1 and its judge at work on the training split.

    Raises:
        InputError: If stage 1 has not been run.
    """
    config = with_own_clip(stage)
    stage1 = ResponseNet.from_pretrained(find_stage1(stage)).requires_grad_(False)
    network = on_device(stage1, stage)
    judge = on_device(load_judge(config), stage)
    index = open_index(stage.folders.index, config.data.train_split)
    return Labelling(
        directory=stage.folders.labels,
        settings=wanted_labels(stage),
        index=index,
        network=network,
        make_maps=functools.partial(
            choose_maps, network, judge, index=index, selection=config.labels.selection,
            label=config.labels.label,
        ),
        label=config.labels.label,
        num_readers=config.response.training.num_workers,
        log=stage.folders.job("labels_log"),
        used=f"response-{stage.config.group}:best",
        artifact=f"labels-{stage.config.group}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
