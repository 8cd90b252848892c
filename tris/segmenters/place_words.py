"""Place words that count: word embeddings of their own, and words that become planes."""

from collections.abc import Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tris.segmenters.hints import coordinate_planes

_EMBEDDING_SPREAD = 1.0
"""As much as word features behind a layer norm; with a fifth of it planes learn several times as
slowly (docs/beyond.md)."""


class PlaceWords(nn.Module):
    """Gives a segmenter what its text encoder lost: which side a sentence means.

    Contrastive training leaves little of place words in a text encoder's features. Two parts mend
    that. `add_to` adds fresh embeddings to the word features, and `forward` turns the fresh
    embeddings into a few linear planes a x + b y + c over the image, alone and times maps that the
    caller has (a response), to join a decoder's inputs.

    The planes see nothing of the text encoder: its features are as large as the embeddings, differ
    with everything else that is said, and hardly with the side (docs/beyond.md).

    From the start the planes are about as large as a standardised map, and one word of a sentence
    changes them by a good part of that: a decoder that has a response to go by does not listen to
    what is a hundredth of it (docs/beyond.md).

    Its embeddings are noise before they are trained, and of a large vocabulary a data set has few
    words. `keep_words` silences the others, so that a word which comes up in use only adds nothing:
    its embedding is zero, and a word without an embedding has no say in the planes. (No list of
    words is kept beside the weights. Should training read a silent word after all, one of a
    composed sentence, its gradient gives it an embedding, the same in every process.)

    A network with place words builds this with its tokenizer's vocabulary, calls `add_to` on what
    its text encoder gives, uses the sum in place of the word features, and gives `forward` the
    token ids.

    Args:
        vocabulary_size: Token ids are below it.
        word_channels: Channels of the word features.
        num_planes: Planes per sentence.

    Source:
        Ours (docs/beyond.md).
    """

    def __init__(self, vocabulary_size: int, word_channels: int, *, num_planes: int = 4) -> None:
        super().__init__()
        self.num_planes = num_planes
        self.embedding = nn.Embedding(vocabulary_size, word_channels)
        nn.init.normal_(self.embedding.weight, std=_EMBEDDING_SPREAD)
        self.word_layer = nn.Sequential(
            nn.LayerNorm(word_channels), _make_linear(word_channels, word_channels), nn.GELU()
        )
        self.sentence_layer = nn.Sequential(
            nn.LayerNorm(word_channels), _make_linear(word_channels, word_channels), nn.GELU(),
            _make_linear(word_channels, 3 * num_planes),
        )  # fmt: skip

    def num_channels(self, num_maps: int) -> int:
        """Return how many maps `forward` gives for ``num_maps`` maps of the caller's."""
        return self.num_planes * (1 + num_maps)

    def keep_words(self, token_ids: Collection[int]) -> None:
        """Silence every token but these; before training, with all tokens that it will read."""
        is_kept = torch.zeros_like(self.embedding.weight[:, 0], dtype=torch.bool)
        is_kept[list(token_ids)] = True
        with torch.no_grad():
            self.embedding.weight[~is_kept] = 0.0

    def add_to(
        self,
        word_features: Float[Tensor, "expr tokens channels"],
        token_ids: Int[Tensor, "expr tokens"],
    ) -> Float[Tensor, "expr tokens channels"]:
        """Return the word features plus this module's own embedding of every token."""
        own: Tensor = self.embedding(token_ids)
        return word_features + own.to(word_features.dtype)

    def forward(
        self,
        token_ids: Int[Tensor, "expr tokens"],
        token_mask: Bool[Tensor, "expr tokens"],
        *,
        size: torch.Size | tuple[int, int],
        maps: Float[Tensor, "expr maps h w"] | None = None,
        shares: Float[Tensor, "expr 2"] | None = None,
    ) -> Float[Tensor, "expr _ height width"]:
        """Return the sentences' planes, then each map times each plane.

        Args:
            token_ids: The sentences; they may be padded.
            token_mask: True = real token; the others have no say, nor have silent ones.
            size: Height, width of the planes; ``maps`` have the same.
            maps: Where things are that the sentence may be about, or None.
            shares: Which part of height and width shows the photograph, over which x and y go from
                -1 to 1; None = all (`tris.segmenters.hints.content_shares`).
        """
        own = self.embedding(token_ids)
        features = self.word_layer(own)
        has_say = token_mask & (own != 0).any(dim=-1)
        counted = has_say[..., None].to(features.dtype)
        features = features * counted
        sentences = features.sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        coefficients = self.sentence_layer(sentences).unflatten(1, (self.num_planes, 3))
        if shares is not None:
            coefficients = _stretch(coefficients.float(), 1 / shares.flip(-1)).to(coefficients)
        x_and_y = coordinate_planes(size, like=coefficients)
        basis = torch.cat([x_and_y, torch.ones_like(x_and_y[:1])])
        planes = torch.einsum("epk,khw->ephw", coefficients, basis)
        if maps is None:
            return planes
        products = maps.to(planes.dtype).unsqueeze(2) * planes.unsqueeze(1)
        return torch.cat([planes, products.flatten(1, 2)], dim=1)


def build_place_words(words: nn.Module, word_channels: int) -> PlaceWords:
    """Return place words for the vocabulary of a word encoder, whose first layer embeds tokens."""
    tokens = next(module for module in words.modules() if isinstance(module, nn.Embedding))
    return PlaceWords(tokens.num_embeddings, word_channels)


def _stretch(
    coefficients: Float[Tensor, "expr planes 3"], by: Float[Tensor, "expr 2"]
) -> Float[Tensor, "expr planes 3"]:
    """Return the planes' coefficients for x and y that are stretched from the top left corner."""
    slopes, by = coefficients[..., :2], by.unsqueeze(1)
    offsets = coefficients[..., 2:] + (slopes * (by - 1)).sum(dim=-1, keepdim=True)
    return torch.cat([slopes * by, offsets], dim=-1)


def _make_linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    """Return a layer that keeps the spread of what a GELU lets through."""
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
