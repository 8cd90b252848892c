"""Image groups: one sentence against several photographs, about half of which do not show it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from tris.data.draws import draw
from tris.data.group_sources import GroupingConfig, GroupSource
from tris.data.index import Index
from tris.data.plan import Item, evaluation_batches
from tris.data.tokens import text_id
from tris.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class GroupConfig:
    """How batches of image groups are made.

    Attributes:
        group_size: N, pairs of photograph and sentence per group (GRSer: 8); where N is odd, every
            other group has one positive more than negatives, the others one fewer.
        batch_size: Pairs of a batch over all processes together, a multiple of N.
        grouping: Which pairs stand alone, and what stands beside them.
    """

    group_size: int = 8
    batch_size: int = 32
    grouping: GroupingConfig = field(default_factory=GroupingConfig)


class _Run(NamedTuple):
    """Some of the photographs that a sentence fits: the positives of one group.

    Attributes:
        sentence: Number in the source.
        positives: Numbers among its photographs.
    """

    sentence: int
    positives: tuple[int, ...]


class _Pairs(NamedTuple):
    """Pairs of one sentence and several photographs, some of them negatives."""

    positives: list[Item]
    counterparts: list[Item]


class GroupPlan:
    """This process's part of every training batch of image groups; offers what `BatchPlan` does.

    A batch consists of units of N pairs, half of them positive. A sentence that many photographs
    share fills whole units; what is left of it, and rarer sentences, fill units together, as
    smaller groups. So every pair of sentence and photograph is seen about once an epoch, positives
    and negatives stand 1 : 1 everywhere, and all processes see equally many. No group is split.

    Pairs may also stand alone (`GroupingConfig.alone_share`). A sentence that stands alone, or has
    a single photograph, may be composed: what then means several objects, or none, stands alone,
    and so does its counterpart. Where the data set has sentences about nothing (gRefCOCO), one of
    them, with its own photograph, is the counterpart of a share of such positives
    (`GroupingConfig.absent_share`).

    Source:
        GRSer (arXiv 2305.12452), section 3.4: N = 8, positives : negatives = 1 : 1.
    """

    def __init__(
        self,
        source: GroupSource,
        config: GroupConfig,
        *,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
        composer: Callable[[Item], Item] | None = None,
    ) -> None:
        """Make the plan.

        Args:
            source: Sentences and their photographs.
            config: Sizes.
            seed: Of the run.
            process_index: Of this process.
            num_processes: Of the run.
            composer: See `tris.data.compose.Composer`.

        Raises:
            InputError: If the batch cannot be split into whole units, evenly over the processes,
                or the source has too few photographs for one.
        """
        self.config, self.seed = config, seed
        self.process_index, self.num_processes = process_index, num_processes
        self._source, self._composer = source, composer
        self._epoch, self._start_step = 0, 0
        self._most_positives = (config.group_size + 1) // 2
        self._check_sizes()
        self._units_per_batch = config.batch_size // config.group_size
        counts = np.asarray(source.num_positives)
        rest = int((counts % self._most_positives).sum())
        whole = int((counts // self._most_positives).sum())
        self._num_units = whole + rest // self._most_positives
        if not self.num_steps:
            raise InputError(
                f"The sentences have {self._num_units} groups of {config.group_size} photographs, "
                f"fewer than one batch of {self._units_per_batch}: use a smaller batch."
            )
        self._units = lru_cache(maxsize=2)(self._arrange)

    @property
    def num_steps(self) -> int:
        """Batches of a whole epoch; a last one that is not full is left out."""
        return self._num_units // self._units_per_batch

    @property
    def shares_images(self) -> bool:
        """Every pair has an image row of its own, so that rows do not depend on the processes."""
        return False

    def start_at(self, epoch: int, step: int = 0) -> None:
        """Make the next iteration begin here."""
        self._epoch, self._start_step = epoch, step

    def __len__(self) -> int:
        """Return the number of steps that the next iteration gives."""
        return max(self.num_steps - self._start_step, 0)

    def __iter__(self) -> Iterator[list[Item]]:
        epoch = self._epoch
        for step in range(self._start_step, self.num_steps):
            yield self.items(epoch, step)

    def items(self, epoch: int, step: int) -> list[Item]:
        """Return this process's part of one batch, positives before negatives in every group."""
        first = step * self._units_per_batch
        places = np.arange(first, first + self._units_per_batch)
        mine = np.array_split(places, self.num_processes)[self.process_index]
        return [
            item
            for place in mine.tolist()
            for item in self._unit_items(epoch, place, 1 + (place - first) * self._most_positives)
        ]

    def _unit_items(self, epoch: int, place: int, first_group: int) -> list[Item]:
        """Return the groups of one unit; their numbers are their own in the whole batch."""
        rng = draw("negatives", self.seed, epoch, place)
        runs = self._units(epoch)[place]
        stands_alone = (
            draw("alone", self.seed, epoch, place).random() < self.config.grouping.alone_share
        )
        num_spare = (epoch + place) % 2
        items: list[Item] = []
        for offset, run in enumerate(runs):
            positives, count = run.positives, len(run.positives)
            if offset + 1 == len(runs) and self.config.group_size % 2:
                positives, count = positives[: count - num_spare], count - 1 + num_spare
            chosen = [self._source.positive(run.sentence, number) for number in positives]
            chosen = [each._replace(epoch=epoch) for each in chosen]
            pairs = _Pairs(chosen, self._source.negatives(run.sentence, count, rng))
            group = first_group + offset
            if stands_alone or len(run.positives) == 1:
                composed = self._compose(pairs, count, place)
                if stands_alone or composed != pairs:
                    group = 0
                pairs = composed
            members = [*pairs.positives, *pairs.counterparts]
            items += [each._replace(epoch=epoch, group=group) for each in members]
        return items

    def _compose(self, pairs: "_Pairs", most_counterparts: int, place: int) -> "_Pairs":
        """Return pairs that stand alone as they are, or composed.

        What means nothing takes the place of the positive's counterpart.
        """
        positives, counterparts = list(pairs.positives), list(pairs.counterparts)
        for number, positive in enumerate(pairs.positives):
            composed = self._absent_instead(positive, place)
            if composed is None and self._composer is not None:
                composed = self._composer(positive)
            if composed is None or composed == positive:
                continue
            if composed.target_rows:
                positives[number] = composed
            elif number < len(counterparts):
                counterparts[number] = composed
            elif len(counterparts) < most_counterparts:
                counterparts.append(composed)
        return _Pairs(positives, counterparts)

    def _absent_instead(self, positive: Item, place: int) -> Item | None:
        """Return, now and then, a pair that stands in the data set because nothing fits."""
        absent = self._source.absent
        if not absent:
            return None
        rng = draw("sentence", self.seed, positive.epoch, place, positive.expression)
        if rng.random() >= self.config.grouping.absent_share:
            return None
        return absent[int(rng.integers(len(absent)))]._replace(target_rows=())

    def _arrange(self, epoch: int) -> list[list[_Run]]:
        """Return the units of an epoch in their order."""
        rng, most = draw("order", self.seed, epoch), self._most_positives
        units: list[list[_Run]] = []
        rest: list[_Run] = []
        for sentence in rng.permutation(len(self._source.num_positives)).tolist():
            order = rng.permutation(self._source.num_positives[sentence]).tolist()
            cut = len(order) - len(order) % most
            units += [[_Run(sentence, tuple(order[i : i + most]))] for i in range(0, cut, most)]
            if cut < len(order):
                rest.append(_Run(sentence, tuple(order[cut:])))
        rest.sort(key=lambda run: -len(run.positives))
        units += _pack(rest, most)
        return [units[i] for i in rng.permutation(len(units))]

    def _check_sizes(self) -> None:
        size, batch, processes = self.config.group_size, self.config.batch_size, self.num_processes
        if size < 1 or batch < 1 or batch % size or (batch // size) % processes:
            raise InputError(
                f"A batch of {batch} pairs cannot be split into groups of {size} photographs and "
                f"evenly over {processes} processes: choose a multiple of {size * processes}."
            )


def _pack(runs: Sequence[_Run], size: int) -> list[list[_Run]]:
    """Fill units of ``size`` positives one after the other; a run that does not fit is cut."""
    units: list[list[_Run]] = []
    unit: list[_Run] = []
    room = size
    for run in runs:
        left = run
        while left.positives:
            unit.append(_Run(left.sentence, left.positives[:room]))
            left = _Run(left.sentence, left.positives[room:])
            room -= len(unit[-1].positives)
            if not room:
                units.append(unit)
                unit, room = [], size
    return units


def group_evaluation_batches(
    index: Index, *, pairs_per_batch: int, largest_group: int = 0
) -> list[list[Item]]:
    """Return the expressions of a split in whole groups, every expression once.

    Rows that carry ``group`` are one group per name and sentence, of whatever size. Every other
    expression stands alone with its photograph.

    Args:
        index: The split.
        pairs_per_batch: Groups are put together until there are so many; a larger one is a batch
            of its own.
        largest_group: Larger ones are cut into even parts; 0 = they stay whole.
    """
    names = index.column("group").to_pylist()
    groups: dict[tuple[str, int], list[int]] = {}
    alone: list[list[int]] = []
    for image in evaluation_batches(index, images_per_batch=1):
        for expression in image:
            row, position = index.expression_row(expression)
            if names[row]:
                key = names[row], text_id(index[row].sentences[position])
                groups.setdefault(key, []).append(expression)
            else:
                alone.append([expression])
    batches: list[list[Item]] = []
    batch: list[Item] = []
    parts = [part for group in groups.values() for part in cut_evenly(group, most=largest_group)]
    for number, members in enumerate([*parts, *alone]):
        is_group = number < len(parts)
        if batch and len(batch) + len(members) > pairs_per_batch:
            batches.append(batch)
            batch = []
        group = batch[-1].group + 1 if batch and is_group else int(is_group)
        batch += [Item(expression, group=group) for expression in members]
    return [*batches, batch] if batch else batches


def cut_evenly(members: Sequence[T], *, most: int) -> list[Sequence[T]]:
    """Return parts of nearly equal length, none longer than ``most``; 0 = a single part."""
    count = -(-len(members) // most) if most else 1
    edges = [len(members) * number // count for number in range(count + 1)]
    return [members[start:end] for start, end in pairwise(edges)]
