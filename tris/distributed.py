"""Tensors that cross processes. Without `torch.distributed` every function is the identity."""

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx


def num_processes() -> int:
    """Return how many processes work together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def process_index() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def relative_share(count: int, *, like: Tensor) -> float:
    """Return ``count`` divided by its mean over the processes; all processes call this together.

    A loss that is a mean over this many rows, times this, has the gradients of one process: plain
    averaging would give each process the same say, however many rows it has. 1.0 where all have
    equally many, 0.0 where there are none at all.

    Args:
        count: Rows of this process, such as expressions of its part of a batch.
        like: Gives the device.
    """
    if num_processes() == 1:
        return 1.0
    return count * num_processes() / max(1, sum(_gather_counts(count, like=like)))


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Concatenate the rows of all processes, in process order, with gradients.

    Processes may hold different numbers of rows. The gradient of a row is the sum over processes;
    after the averaging of data-parallel training it is that of the mean of the processes' losses.

    Args:
        rows: At least one-dimensional; all but the first axis agree between processes.

    Returns:
        All rows, and the position of this process's first row among them.
    """
    if num_processes() == 1:
        return rows, 0
    counts = _gather_counts(len(rows), like=rows)
    start = sum(counts[: process_index()])
    if rows.requires_grad:
        gathered: Tensor = _GatherRows.apply(rows, counts, start)
        return gathered, start
    return _gather_padded(rows, counts), start


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, counts: list[int], start: int) -> Tensor:
        ctx.slice = (start, len(rows))  # type: ignore[attr-defined]
        return _gather_padded(rows, counts)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = gradient.contiguous()
        distributed.all_reduce(total)
        start, length = ctx.slice  # type: ignore[attr-defined]
        return total[start : start + length], None, None


def _gather_counts(count: int, *, like: Tensor) -> list[int]:
    own = torch.tensor([count], device=like.device)
    counts = [torch.zeros_like(own) for _ in range(num_processes())]
    distributed.all_gather(counts, own)
    return [int(each) for each in counts]


def _gather_padded(rows: Tensor, counts: list[int]) -> Tensor:
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
