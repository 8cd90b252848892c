"""Bring the rows of all processes together. Rows travel, masks never do."""

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Float64, Int64
from torch import distributed

from tris.metrics.rows import merge_rows

Rows = Int64[np.ndarray, "_ columns"] | Float64[np.ndarray, "_ columns"]
"""Of `tris.metrics.counts.count_row` or `tris.metrics.saliency.saliency_row`."""


def gather_rows(rows: Rows) -> Rows:
    """Return the rows of all processes, every expression once, sorted; the same on each process.

    Processes may bring different numbers of rows, none included. Without initialised processes
    this only removes duplicates and sorts.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return merge_rows([rows])
    where = PartialState().device
    num_processes = distributed.get_world_size()
    own_length = torch.tensor([len(rows)], device=where)
    lengths = [torch.zeros_like(own_length) for _ in range(num_processes)]
    distributed.all_gather(lengths, own_length)
    longest = max(int(length) for length in lengths)
    padded = torch.zeros((longest, rows.shape[1]), dtype=torch.from_numpy(rows).dtype, device=where)
    padded[: len(rows)] = torch.from_numpy(rows)
    parts = [torch.zeros_like(padded) for _ in range(num_processes)]
    distributed.all_gather(parts, padded)
    return merge_rows(
        [part[: int(length)].cpu().numpy() for part, length in zip(parts, lengths, strict=True)]
    )
