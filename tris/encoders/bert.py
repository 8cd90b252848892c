"""BERT through transformers: one vector per word piece."""

from dataclasses import dataclass

import transformers
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tris.encoders.staged import WordEncoder
from tris.encoders.weights import fetch_weights
from tris.model_directory import load_state


@dataclass(frozen=True)
class BertConfig:
    """The defaults are BERT-base, trained as LAVT, DMMI and MABP train it.

    Attributes:
        pretrained: Name on the Hugging Face hub or folder of a transformers BERT, or "" for random
            weights.
        vocabulary_size: Rows of the token embedding.
        dim: Width.
        num_layers: Transformer layers.
        num_heads: Attention heads.
        feedforward_dim: Inner width of the perceptrons.
        max_tokens: Rows of the position embedding.
        num_trained_layers: So many layers from the first one learn, and nothing else (released: 10
            of 12; the embeddings, too, stay as they were); None = everything learns.
    """

    pretrained: str = "bert-base-uncased"
    vocabulary_size: int = 30522
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    feedforward_dim: int = 3072
    max_tokens: int = 512
    num_trained_layers: int | None = 10

    def build(self, *, pretrained: bool = True) -> "BertWords":
        """Make the encoder; ``pretrained=False`` leaves the weights random."""
        return BertWords(self, load=pretrained)


class BertWords(WordEncoder):
    """The last hidden state of a BERT without pooler.

    Source:
        BERT (arXiv 1810.04805).
    """

    def __init__(self, config: BertConfig, *, load: bool = True) -> None:
        super().__init__()
        self.config = config
        self.bert = transformers.BertModel(_describe(config), add_pooling_layer=False)
        self.word_dim = config.dim
        if load and config.pretrained:
            state = fetch_weights(
                transformers.BertModel, config.pretrained, title="BERT", add_pooling_layer=False
            )
            load_state(self.bert, state, source=config.pretrained)
        if config.num_trained_layers is not None:
            self.bert.requires_grad_(False)
            for layer in self.bert.encoder.layer[: config.num_trained_layers]:
                layer.requires_grad_(True)

    def forward(
        self, token_ids: Int[Tensor, "expr tokens"], token_mask: Bool[Tensor, "expr tokens"]
    ) -> Float[Tensor, "expr tokens dim"]:
        """Return the features of every token; no token attends to padding."""
        hidden = self.bert.embeddings(input_ids=token_ids)
        attended = token_mask[:, None, None, :].expand(-1, 1, token_ids.shape[1], -1)
        for layer in self.bert.encoder.layer:
            hidden = layer(hidden, attended)
        words: Tensor = hidden
        return words


def _describe(config: BertConfig) -> "transformers.BertConfig":
    return transformers.BertConfig(
        vocab_size=config.vocabulary_size,
        hidden_size=config.dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.feedforward_dim,
        max_position_embeddings=config.max_tokens,
        attn_implementation="sdpa",
    )
