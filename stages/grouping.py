"""Batches of image groups, for group-wise segmenters."""

from collections.abc import Callable
from typing import Literal

from stages.setup import Stage, wanted_text
from tris.data.compose import Composer
from tris.data.group_sources import GroupSource, IndexedGroups, RecurringSentences
from tris.data.groups import GroupConfig, GroupPlan
from tris.data.index import Index
from tris.data.samples import ExpressionDataset


def make_group_plan(
    stage: Stage, dataset: ExpressionDataset, *, batch_size: int, composer: Composer | None = None
) -> GroupPlan:
    """Return the plan of a group-wise segmenter's training.

    Args:
        stage: Has seed, processes, and which text is read.
        dataset: Its ``spec`` says how many photographs a group has.
        batch_size: Pairs of photograph and sentence over all processes.
        composer: What composes sentences of single photographs; its CLIP, if it has one, also
            refuses negatives that look true.

    Raises:
        InputError: If the batch cannot be split into groups, or the split has too few.
    """
    looks_true = composer.clip.may_be_true if composer and composer.clip else None
    text = wanted_text(stage.config)
    return GroupPlan(
        find_groups(dataset.index, text=text, looks_true=looks_true),
        GroupConfig(
            group_size=dataset.spec.group_size,
            batch_size=batch_size,
            alone_share=composer.config.alone_share if composer else 0.0,
        ),
        seed=stage.config.seed,
        process_index=stage.accelerator.process_index,
        num_processes=stage.accelerator.num_processes,
        composer=composer,
    )


def find_groups(
    index: Index,
    *,
    text: Literal["clean", "raw"] = "clean",
    looks_true: Callable[[int, int], bool] | None = None,
) -> GroupSource:
    """Return the groups that the index names, or else those that its sentences make.

    Args:
        index: The split.
        text: Sentences as cleaned, or as typed.
        looks_true: Of expression and row: whether a photograph is to be no negative.
    """
    if any(index.column("group").unique().to_pylist()):
        return IndexedGroups(index)
    return RecurringSentences(index, text=text, looks_true=looks_true)
