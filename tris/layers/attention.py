"""Multi-head attention with a residual and a norm behind it, as DETR's decoders have it."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class AttentionBlock(nn.Module):
    """Queries gather values; the sum with the residual is normalised (post-norm).

    Positions are added to queries and keys, never to values. One mask serves all heads, so none is
    repeated in memory.

    Args:
        dim: Channels of queries, keys and values; their projections are one matrix, in this order.
        num_heads: Divides ``dim``.

    Source:
        DETR (arXiv 2005.12872), appendix A.3; Mask2Former (arXiv 2112.01527), section 3.2.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.input = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        for layer in (self.input, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        queries: Float[Tensor, "batch queries dim"],
        memory: Float[Tensor, "batch keys dim"],
        *,
        query_positions: Float[Tensor, "#batch queries dim"],
        key_positions: Float[Tensor, "#batch keys dim"],
        visible: Bool[Tensor, "batch queries keys"] | None = None,
    ) -> Float[Tensor, "batch queries dim"]:
        """Return the updated queries.

        Args:
            queries: What asks.
            memory: What is gathered.
            query_positions: Position embeddings of the queries.
            key_positions: Position embeddings of the memory.
            visible: True = this query may look there, at least one key per query; None = all may.
        """
        sources = (queries + query_positions, memory + key_positions, memory)
        layers = zip(self.input.weight.chunk(3), self.input.bias.chunk(3), strict=True)
        query, key, value = (
            functional.linear(source, weight, bias).unflatten(2, (self.num_heads, -1))
            for source, (weight, bias) in zip(sources, layers, strict=True)
        )
        attended = functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=None if visible is None else visible[:, None],
        )
        gathered: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        normalised: Tensor = self.norm(queries + gathered)
        return normalised


class FeedForwardBlock(nn.Module):
    """Two linear layers with ReLU between, residual and norm (post-norm).

    Args:
        dim: Channels.
        hidden_dim: Width between the layers.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, hidden_dim)
        self.second = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)
        nn.init.xavier_uniform_(self.first.weight)
        nn.init.xavier_uniform_(self.second.weight)

    def forward(self, features: Float[Tensor, "batch n dim"]) -> Float[Tensor, "batch n dim"]:
        """Return the updated features."""
        normalised: Tensor = self.norm(features + self.second(self.first(features).relu()))
        return normalised
