"""One layer of the mixed-modal decoder: queries, words and cells meet."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tris.layers.attention import AttentionBlock, FeedForwardBlock


class MixedModalLayer(nn.Module):
    """Queries look at cells and words together, then queries and words at each other.

    The words stand in for a target where the image has none, so that attention need not spread
    evenly over an image that holds nothing. Padding tokens take part, as released.

    Args:
        dim: Channels.
        num_heads: Of both attentions.
        feedforward_dim: Width inside the feed-forward block.
        num_tokens: Words per sentence, padding included; a linear layer mixes them by place.
        has_words_in_cross_attention: False = queries look at cells alone.
        has_words_in_self_attention: False = queries look at queries alone, and the words change by
            the mixing layer only.

    Source:
        MABP (arXiv 2405.15169), section III-C, equation 1; the mixing layer is in the released code
        only.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        num_tokens: int,
        *,
        has_words_in_cross_attention: bool = True,
        has_words_in_self_attention: bool = True,
    ) -> None:
        super().__init__()
        self.has_words_in_cross_attention = has_words_in_cross_attention
        self.has_words_in_self_attention = has_words_in_self_attention
        self.word_mixing = nn.Linear(num_tokens, num_tokens)
        self.cross_attention = AttentionBlock(dim, num_heads)
        self.self_attention = AttentionBlock(dim, num_heads)
        self.feed_forward = FeedForwardBlock(dim, feedforward_dim)

    def forward(
        self,
        queries: Float[Tensor, "expr regions dim"],
        words: Float[Tensor, "expr tokens dim"],
        cells: Float[Tensor, "expr cells dim"],
        *,
        query_positions: Float[Tensor, "1 regions dim"],
        word_positions: Float[Tensor, "1 tokens dim"],
        cell_positions: Float[Tensor, "1 cells dim"],
        visible: Bool[Tensor, "expr regions cells"] | None,
    ) -> tuple[Float[Tensor, "expr regions dim"], Float[Tensor, "expr tokens dim"]]:
        """Return updated queries and words.

        Args:
            queries: One per region.
            words: Of the sentence.
            cells: Of this level's map, row by row.
            query_positions: Learned, one per region.
            word_positions: Learned, one per token.
            cell_positions: Sines.
            visible: True = this query may look at that cell; None = at all. Words always are seen.
        """
        words = self.word_mixing(words.transpose(1, 2)).transpose(1, 2)
        memory, positions = cells, cell_positions
        if self.has_words_in_cross_attention:
            memory = torch.cat([cells, words], dim=1)
            positions = torch.cat([cell_positions, word_positions], dim=1)
            if visible is not None:
                always = visible.new_ones(*visible.shape[:2], words.shape[1])
                visible = torch.cat([visible, always], dim=2)
        queries = self.cross_attention(
            queries,
            memory,
            query_positions=query_positions,
            key_positions=positions,
            visible=visible,
        )
        if not self.has_words_in_self_attention:
            return self._mix(queries, query_positions), words
        mixed = self._mix(
            torch.cat([queries, words], dim=1),
            torch.cat([query_positions, word_positions], dim=1),
        )
        return mixed[:, : queries.shape[1]], mixed[:, queries.shape[1] :]

    def _mix(self, features: Tensor, positions: Tensor) -> Tensor:
        attended = self.self_attention(
            features, features, query_positions=positions, key_positions=positions
        )
        mixed: Tensor = self.feed_forward(attended)
        return mixed
