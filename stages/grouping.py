"""Batches of image groups, for group-wise segmenters."""

from typing import Literal

from stages.setup import Stage
from tris.data.group_sources import GroupSource, IndexedGroups, RecurringSentences
from tris.data.groups import GroupConfig, GroupPlan
from tris.data.index import Index
from tris.data.samples import ExpressionDataset


def make_group_plan(stage: Stage, dataset: ExpressionDataset, *, batch_size: int) -> GroupPlan:
    """Return the plan of a group-wise segmenter's training.

    Args:
        stage: Has seed, processes, and which text is read.
        dataset: Its ``spec`` says how many photographs a group has.
        batch_size: Pairs of photograph and sentence over all processes.

    Raises:
        InputError: If the batch cannot be split into groups, or the split has too few.
    """
    return GroupPlan(
        find_groups(dataset.index, text="clean" if stage.config.data.text == "sent" else "raw"),
        GroupConfig(group_size=dataset.spec.group_size, batch_size=batch_size),
        seed=stage.config.seed,
        process_index=stage.accelerator.process_index,
        num_processes=stage.accelerator.num_processes,
    )


def find_groups(index: Index, *, text: Literal["clean", "raw"] = "clean") -> GroupSource:
    """Return the groups that the index names, or else those that its sentences make."""
    if any(index.column("group").unique().to_pylist()):
        return IndexedGroups(index)
    return RecurringSentences(index, text=text)
