"""A feature map cut into a square grid of windows, one per region."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


class RegionGrid(NamedTuple):
    """Where the windows of a map lie.

    The map is padded with zeros to ``side`` windows each way, half of it before the map, and the
    odd row or column behind. At 480 pixels these are the windows of the released network, whose
    padding is written down for that size only.

    Attributes:
        height: Of the map, cells.
        width: Of the map, cells.
        side: Windows per axis; regions = side squared.
        window_height: Cells.
        window_width: Cells.

    Source:
        MABP (arXiv 2405.15169), section III-D.1.
    """

    height: int
    width: int
    side: int
    window_height: int
    window_width: int

    @classmethod
    def over(
        cls, size: torch.Size | tuple[int, int], num_regions: int, *, is_tight: bool = False
    ) -> "RegionGrid":
        """Lay a grid over a map.

        Args:
            size: Height, width of the map, cells.
            num_regions: A square number.
            is_tight: Use the smallest windows that cover the map. Published: floor(size / side)
                + 1, which is larger where the side divides the map, so that outer windows then
                hold little but padding.
        """
        height, width = size
        side = math.isqrt(num_regions)
        rows, columns = (
            (math.ceil(extent / side) if is_tight else extent // side + 1)
            for extent in (height, width)
        )
        return cls(height, width, side, rows, columns)

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Cells of padding: left, right, top, bottom."""
        rows = self.side * self.window_height - self.height
        columns = self.side * self.window_width - self.width
        return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2

    def partition(
        self, features: Float[Tensor, "batch channels h w"]
    ) -> Float[Tensor, "batch regions cells channels"]:
        """Return the cells of every window, row by row; padding is zero."""
        padded = functional.pad(features, self.padding)
        windows: Tensor = padded.unflatten(3, (self.side, self.window_width)).unflatten(
            2, (self.side, self.window_height)
        )
        return windows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)

    def merge(self, values: Float[Tensor, "batch regions cells"]) -> Float[Tensor, "batch h w"]:
        """Put the windows back together, without the padding."""
        windows: Tensor = values.unflatten(2, (self.window_height, self.window_width)).unflatten(
            1, (self.side, self.side)
        )
        padded = windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        left, _, top, _ = self.padding
        return padded[:, top : top + self.height, left : left + self.width]

    def membership(self, device: torch.device) -> Bool[Tensor, "regions cells"]:
        """Say which cells of the map (row by row, without padding) each region owns."""
        left, _, top, _ = self.padding
        rows = (torch.arange(self.height, device=device) + top) // self.window_height
        columns = (torch.arange(self.width, device=device) + left) // self.window_width
        owner = (rows[:, None] * self.side + columns).flatten()
        return owner == torch.arange(self.side**2, device=device)[:, None]


def quadruple(queries: Float[Tensor, "batch regions dim"]) -> Float[Tensor, "batch more dim"]:
    """Give every region's query to the four regions that it falls into (nearest upsampling)."""
    grid = as_grid(queries)
    finer = grid.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return finer.flatten(2).transpose(1, 2)


def as_grid(queries: Float[Tensor, "batch regions dim"]) -> Float[Tensor, "batch dim side side"]:
    """Return the queries as a map of their regions."""
    side = math.isqrt(queries.shape[1])
    grid: Tensor = queries.transpose(1, 2).unflatten(2, (side, side))
    return grid
