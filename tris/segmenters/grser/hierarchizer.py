"""The heatmap hierarchizer: which expert of the group is to be believed first (GRSer, 3.3)."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Ranking = Literal["both", "positive", "negative", "random"]
"""What heatmaps are ordered by: both ranks, as published, one of them, or chance (Table 4)."""

_HASH_FACTOR = 2654435761
_HASH_RANGE = 1 << 32


class Sides(NamedTuple):
    """What a prototype is held against; mirror training swaps the two.

    Attributes:
        wanted: Feature of the expression.
        unwanted: Feature of the anti-expression.
    """

    wanted: Float[Tensor, "expr channels"]
    unwanted: Float[Tensor, "expr channels"]

    def swapped(self) -> "Sides":
        """Return the roles exchanged."""
        return Sides(self.unwanted, self.wanted)


def find_groups(group_index: Int[Tensor, "expr"]) -> Bool[Tensor, "expr expr"]:
    """Say which pairs share a group: equal numbers above 0.

    Number 0 stands for "no group": such a pair is a group of one.
    """
    is_equal = (group_index[:, None] == group_index) & (group_index > 0)
    return is_equal | torch.eye(len(group_index), dtype=torch.bool, device=group_index.device)


def rank_members(
    prototypes: Float[Tensor, "expr channels"],
    sides: Sides,
    members: Bool[Tensor, "expr expr"],
    *,
    ranking: Ranking = "both",
    random_keys: Float[Tensor, "expr"] | None = None,
) -> Int[Tensor, "expr"]:
    """Return every member's place in its group, from 0 (believed first).

    A small distance to the wanted side and a great one to the other make a good expert; the two
    ranks are added. Equal sums are ordered by the difference of the two distances, so that the
    order in which a group is listed decides nothing.

    Args:
        prototypes: One per photograph.
        sides: What they are held against.
        members: Which pairs share a group.
        ranking: Which ranks count.
        random_keys: For ``random``: the order is theirs.

    Source:
        GRSer (arXiv 2305.12452), equation 4.
    """
    positive, negative = (_distance(prototypes, side) for side in sides)
    tie_break = positive - negative
    if ranking == "random":
        assert random_keys is not None, "a random order needs its keys"
        return _count(members, _is_before(random_keys, tie_break))
    first = _count(members, positive[None] < positive[:, None])
    second = _count(members, negative[None] > negative[:, None])
    ranks = {"both": first + second, "positive": first, "negative": second}[ranking]
    return _count(members, _is_before(ranks, tie_break))


def fill_slots(
    places: Int[Tensor, "expr"], members: Bool[Tensor, "expr expr"], num_slots: int
) -> Int[Tensor, "expr slots"]:
    """Return which member's heatmap goes into which channel, best first.

    A group of as many members as slots gives each its own. Another one is spread over the slots
    evenly, from the most to the least believed, both included: the network takes groups of any
    size.

    Args:
        places: Of every member in its group.
        members: Which pairs share a group.
        num_slots: Channels of the network.
    """
    last = members.sum(dim=1, keepdim=True) - 1
    steps = max(1, num_slots - 1)
    wanted = (2 * last * torch.arange(num_slots, device=places.device) + steps) // (2 * steps)
    is_there = members[:, None] & (places == wanted[..., None])
    return is_there.int().argmax(dim=2)


def hash_images(image_id: Int[Tensor, "expr"]) -> Float[Tensor, "expr"]:
    """Return a number in [0, 1) per photograph that no order depends on, for a "random" rank."""
    return (image_id * _HASH_FACTOR % _HASH_RANGE).double() / _HASH_RANGE


def _distance(first: Tensor, second: Tensor) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(first.float() - second.float(), dim=1)
    return distance


def _count(members: Tensor, is_before: Tensor) -> Tensor:
    return (members & is_before).sum(dim=1)


def _is_before(keys: Tensor, tie_break: Tensor) -> Tensor:
    """Say for every row which columns come before it; the last resort are the rows themselves."""
    rows = torch.arange(len(keys), device=keys.device)
    is_tied = (keys[None] == keys[:, None]) & (tie_break[None] == tie_break[:, None])
    is_less = (keys[None] == keys[:, None]) & (tie_break[None] < tie_break[:, None])
    return (keys[None] < keys[:, None]) | is_less | (is_tied & (rows[None] < rows[:, None]))
