"""Which expressions make up which batch: pure functions of seed, epoch, step and process."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np

from tris.data.draws import draw
from tris.data.index import Index
from tris.errors import InputError


class Item(NamedTuple):
    """One sample of a batch: an expression of the split, or something made of several.

    Attributes:
        expression: Running number in the split.
        epoch: Of training; fixes the random choices that go with the expression.
        sentence: What is read in place of the expression's own words.
        image_row: Row of the index whose photograph is looked at; None = the expression's own.
        target_rows: Rows (of that photograph) whose masks together are the target; none of them =
            no target; None = the expression's own.
        group: Number of the image group, for group-wise segmenters.
        is_flipped: Whether photograph and target are mirrored left to right, and the sentence says
            so; alike for all items of a batch that show one photograph.
    """

    expression: int
    epoch: int = 0
    sentence: str | None = None
    image_row: int | None = None
    target_rows: tuple[int, ...] | None = None
    group: int = 0
    is_flipped: bool = False


@dataclass(frozen=True)
class PlanConfig:
    """How training batches are made.

    Attributes:
        sampling: ``referents`` = every referent once per epoch, with one random sentence;
            ``images`` = every image once per epoch, with its sentences.
        batch_size: Referents (or images) of a batch over all processes together.
        max_expressions_per_image: With ``images``: most sentences of an image, drawn anew each
            epoch; 0 = all.
        drop_last: Leave out the last batch where it is not full.
        max_expressions_per_referent: With ``images``: most sentences of each of its referents,
            drawn likewise; None = all.
        flip_probability: Of an image to come mirrored, drawn anew each epoch.
        with_no_target: Whether sentences that refer to nothing take part; steps that learn what
            sentences look like leave them out.
    """

    sampling: Literal["referents", "images"] = "referents"
    batch_size: int = 48
    max_expressions_per_image: int = 0
    drop_last: bool = True
    max_expressions_per_referent: int | None = None
    flip_probability: float = 0.0
    with_no_target: bool = True


class BatchPlan:
    """This process's part of every training batch.

    The global batch does not depend on the number of processes: with P processes, the parts of
    all, in the order of their numbers, are the batch of one process. Iterating gives the steps of
    one epoch from `start_at` on, so that an interrupted epoch goes on where it stopped.
    """

    def __init__(
        self,
        index: Index,
        config: PlanConfig,
        *,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        """Make the plan.

        Raises:
            InputError: If the batch cannot be split evenly, or the split is too small for one.
        """
        self.config, self.seed = config, seed
        self.process_index, self.num_processes = process_index, num_processes
        self._index = index
        self._epoch, self._start_step = 0, 0
        self._rows = list(range(len(index)) if config.with_no_target else rows_with_target(index))
        has_images = config.sampling == "images"
        self._images = _referents_of_images(index, self._rows) if has_images else []
        self._image_ids: list[int] = index.column("image_id").to_pylist()
        self._num_units = len(self._images if has_images else self._rows)
        self._check()
        self._order = lru_cache(maxsize=2)(self._shuffle)

    @property
    def num_steps(self) -> int:
        """Batches of a whole epoch."""
        full, rest = divmod(self._num_units, self.config.batch_size)
        return full + (rest > 0 and not self.config.drop_last)

    @property
    def shares_images(self) -> bool:
        """Whether the sentences of an image share one row of it; random pairs do not."""
        return self.config.sampling == "images"

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
        """Return this process's part of one batch."""
        first = step * self.config.batch_size
        units = self._order(epoch)[first : first + self.config.batch_size]
        part = np.array_split(units, self.num_processes)[self.process_index]
        return [
            Item(expression, epoch, is_flipped=is_flipped)
            for unit in part.tolist()
            for is_flipped in [self._is_flipped(unit, epoch)]
            for expression in self._expressions(unit, epoch)
        ]

    def _is_flipped(self, unit: int, epoch: int) -> bool:
        if not self.config.flip_probability:
            return False
        if self.config.sampling == "images":
            row = self._index.expression_row(self._images[unit][0][0])[0]
        else:
            row = self._rows[unit]
        image_id = self._image_ids[row] % 2**63
        return bool(
            draw("flip", self.seed, epoch, image_id).random() < self.config.flip_probability
        )

    def _expressions(self, unit: int, epoch: int) -> Sequence[int]:
        rng = draw("sentence", self.seed, epoch, unit)
        if self.config.sampling == "referents":
            row = self._rows[unit]
            first = self._index.first_expression(row)
            is_last = row + 1 == len(self._index)
            end = self._index.num_expressions if is_last else self._index.first_expression(row + 1)
            return [int(rng.integers(first, end))]
        referents: Sequence[Sequence[int]] = self._images[unit]
        per_referent = self.config.max_expressions_per_referent
        if per_referent is not None:
            referents = [_draw_some(rng, each, per_referent) for each in referents]
        expressions = list(chain.from_iterable(referents))
        per_image = self.config.max_expressions_per_image
        return _draw_some(rng, expressions, per_image) if per_image else expressions

    def _shuffle(self, epoch: int) -> np.ndarray:
        return draw("order", self.seed, epoch).permutation(self._num_units)

    def _check(self) -> None:
        size, unit = self.config.batch_size, self.config.sampling
        if not 0 <= self.config.flip_probability <= 1:
            raise InputError(
                f"A flip_probability of {self.config.flip_probability} is none; use 0 to 1."
            )
        per_referent = self.config.max_expressions_per_referent
        if per_referent is not None and per_referent < 1:
            raise InputError(
                f"At most {per_referent} sentences of a referent leave it without one: allow at "
                "least 1, or None for all."
            )
        if size < 1 or size % self.num_processes:
            raise InputError(
                f"A batch of {size} {unit} cannot be split evenly over {self.num_processes} "
                "processes: choose a multiple."
            )
        if not self.num_steps:
            raise InputError(
                f"Split {self._index.split} has {self._num_units} {unit}, fewer than one batch of "
                f"{size}: use a smaller batch."
            )
        rest = self._num_units % size
        if not self.config.drop_last and 0 < rest < self.num_processes:
            raise InputError(
                f"The last batch has {rest} {unit}, fewer than {self.num_processes} processes: "
                "drop it."
            )


def evaluation_batches(
    index: Index,
    *,
    images_per_batch: int,
    process_index: int = 0,
    num_processes: int = 1,
) -> list[list[int]]:
    """Return this process's expressions, by running number, grouped by image.

    An image is in one batch with all its sentences. Every expression of the split is with exactly
    one process, none twice; the processes' lists may differ in length.
    """
    mine = _referents_of_images(index, range(len(index)))[process_index::num_processes]
    images = [list(chain.from_iterable(referents)) for referents in mine]
    starts = range(0, len(images), images_per_batch)
    return [[e for image in images[i : i + images_per_batch] for e in image] for i in starts]


def rows_with_target(index: Index) -> list[int]:
    """Return the rows whose sentences refer to something."""
    flags = index.column("is_no_target").to_pylist()
    return [row for row, is_no_target in enumerate(flags) if not is_no_target]


def _draw_some(rng: np.random.Generator, expressions: Sequence[int], most: int) -> Sequence[int]:
    """Return at most so many of the expressions, in their order."""
    if len(expressions) <= most:
        return expressions
    return sorted(rng.choice(expressions, most, replace=False).tolist())


def _referents_of_images(index: Index, rows: Iterable[int]) -> list[list[range]]:
    """Return the running numbers of each referent's expressions, by image.

    Images are in order of appearance, referents in the order of the rows.
    """
    image_ids = index.column("image_id").to_pylist()
    starts = [*(index.first_expression(row) for row in range(len(index))), index.num_expressions]
    images: dict[int, list[range]] = {}
    for row in rows:
        images.setdefault(image_ids[row], []).append(range(starts[row], starts[row + 1]))
    return list(images.values())
