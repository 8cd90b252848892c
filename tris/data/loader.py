"""A plan's batches, read by any number of worker processes."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from tris.batch import Batch
from tris.data.collate import collate
from tris.data.groups import GroupPlan
from tris.data.plan import BatchPlan, Item
from tris.data.samples import ExpressionDataset
from tris.errors import InputError


class BatchLoader:
    """Batches of a dataset in the order of a plan, read by any number of workers.

    The batches do not depend on the number of workers. An `InputError` inside a worker arrives as
    itself, not wrapped in a worker's traceback.
    """

    def __init__(self, loader: DataLoader[Batch | InputError]) -> None:
        """Use `build_loader`."""
        self._loader = loader

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch

    def __len__(self) -> int:
        """Return the number of batches that the next pass gives."""
        return len(self._loader)


def build_loader(
    dataset: ExpressionDataset,
    batches: BatchPlan | GroupPlan | Sequence[list[Item]] | Sequence[list[int]],
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> BatchLoader:
    """Read the batches of a plan or of `evaluation_batches`.

    The plan has already chosen this process's part: the loader must not be sharded again (do not
    pass it to `Accelerator.prepare`).

    Args:
        dataset: Where the samples come from.
        batches: A list, or a plan; gone through anew on each pass.
        num_workers: Processes that read; 0 = this one.
        pin_memory: As in `DataLoader`.
    """
    shares_images = True
    if isinstance(batches, BatchPlan | GroupPlan):
        shares_images = batches.shares_images
    loader: DataLoader[Batch | InputError] = DataLoader(
        _BatchReader(dataset, shares_images=shares_images),
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        worker_init_fn=_calm_worker if num_workers else None,
        # Its own: a pass would else draw from the global one, and a resumed run makes one more.
        generator=torch.Generator(),
    )
    return BatchLoader(loader)


class _BatchReader(Dataset[Batch | InputError]):
    """A dataset whose item is a whole batch, made where it is read."""

    def __init__(self, dataset: ExpressionDataset, *, shares_images: bool) -> None:
        self._dataset, self._shares_images = dataset, shares_images

    def __getitems__(self, items: Sequence[Item | int]) -> Batch | InputError:
        try:
            samples = self._dataset.__getitems__(items)
            return collate(samples, share_images=self._shares_images)
        except InputError as error:
            return InputError(str(error))


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 - DataLoader's own annotation wants a list
    return batch


def _calm_worker(_: int) -> None:
    """One thread per worker: the workers are the parallelism."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
