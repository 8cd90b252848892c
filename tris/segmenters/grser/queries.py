"""The triphasic query module: language and the group's photographs look for the object."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tris.segmenters.grser.hierarchizer import (
    Ranking,
    Sides,
    fill_slots,
    hash_images,
    rank_members,
)


def language_heatmap(
    features: Float[Tensor, "expr channels h w"], text: Float[Tensor, "expr channels"]
) -> Float[Tensor, "expr h w"]:
    """Return the cosine between every cell and the aligned text, in [-1, 1].

    Source:
        GRSer (arXiv 2305.12452), equation 1.
    """
    return torch.einsum("echw,ec->ehw", _unit(features), _unit(text))


def make_prototypes(
    features: Float[Tensor, "expr channels h w"], heatmap: Float[Tensor, "expr h w"]
) -> Float[Tensor, "expr channels"]:
    """Return the mean over all cells of heatmap times features, one per photograph.

    "With mask average pooling": cells that the text turns away from, below 0, do not count; where
    all are, the prototype is 0. So its length says how much of the photograph the text lights up.

    Source:
        GRSer (arXiv 2305.12452), equation 2.
    """
    return (heatmap.relu()[:, None] * features).mean(dim=(2, 3))


def vision_heatmaps(
    features: Float[Tensor, "expr channels h w"],
    prototypes: Float[Tensor, "expr maps channels"],
) -> Float[Tensor, "expr maps h w"]:
    """Return the cosine between every cell and each prototype, in [-1, 1].

    Source:
        GRSer (arXiv 2305.12452), equation 3.
    """
    return torch.einsum("echw,emc->emhw", _unit(features), _unit(prototypes, dim=2))


class TriphasicQueries(nn.Module):
    """Heatmaps of the sentence and of the group's experts, the latter well ranked.

    Args:
        channels: Of the visual features.
        text_dim: Of the text feature.
        num_slots: Vision-activated heatmaps; 0 = none.
        has_language_heatmap: Whether the language-activated one is among the results.

    Attributes:
        alignment: The 1 x 1 convolution of equation 1, of a single cell.
        num_maps: Heatmaps per expression.

    Source:
        GRSer (arXiv 2305.12452), sections 3.2 and 3.3.
    """

    def __init__(
        self, channels: int, text_dim: int, *, num_slots: int, has_language_heatmap: bool
    ) -> None:
        super().__init__()
        self.alignment = nn.Linear(text_dim, channels)
        self.num_slots, self.has_language_heatmap = num_slots, has_language_heatmap
        self.num_maps = num_slots + has_language_heatmap

    def forward(
        self,
        features: Float[Tensor, "expr channels h w"],
        texts: Sides,
        *,
        members: Bool[Tensor, "expr expr"],
        ranking: Ranking,
        image_id: Int[Tensor, "expr"],
    ) -> Float[Tensor, "expr maps h w"]:
        """Return the language-activated heatmap, then the vision-activated ones, best first.

        Args:
            features: One map per pair of photograph and sentence.
            texts: Features of expression and anti-expression; swapped, this is the mirror.
            members: Which pairs share a group.
            ranking: What orders the vision-activated heatmaps.
            image_id: Of every pair's photograph; a random order in evaluation comes from it.
        """
        sides = Sides(self.alignment(texts.wanted), self.alignment(texts.unwanted))
        by_language = language_heatmap(features, sides.wanted)
        maps = [by_language[:, None]] if self.has_language_heatmap else []
        if self.num_slots:
            prototypes = make_prototypes(features, by_language)
            keys = self._random_keys(image_id) if ranking == "random" else None
            places = rank_members(prototypes, sides, members, ranking=ranking, random_keys=keys)
            experts = prototypes[fill_slots(places, members, self.num_slots)]
            maps.append(vision_heatmaps(features, experts))
        return torch.cat(maps, dim=1)

    def _random_keys(self, image_id: Tensor) -> Tensor:
        if self.training:
            return torch.rand(image_id.shape, device=image_id.device)
        return hash_images(image_id)


def _unit(vectors: Tensor, dim: int = 1) -> Tensor:
    return functional.normalize(vectors, dim=dim, eps=1e-6)
