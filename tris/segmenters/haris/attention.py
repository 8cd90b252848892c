"""The human-like attention block, the block that replaces it in an ablation, and the fusion."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tris.layers.selection import select_rows


class FeedbackAttention(nn.Module):
    """Pixels gather words, words gather pixels; what comes of it makes the pixels look again.

    Args:
        dim: C, channels of visual tokens and of all outputs.
        word_dim: Channels of the words that come in.
        sentence_dim: Channels of the sentence.
        has_feedback: Whether there is a second round.
        has_language_weighting: Whether pixels gather words.
        has_vision_weighting: Whether words gather pixels.
        pixel_weights: ``sum`` = words sum pixels by the transposed attention (equation 2);
            ``mean`` = these weights are brought to a sum of one per word.

    Source:
        HARIS, section III.A, equations 1 to 3.
    """

    def __init__(
        self,
        dim: int,
        word_dim: int,
        sentence_dim: int,
        *,
        has_feedback: bool = True,
        has_language_weighting: bool = True,
        has_vision_weighting: bool = True,
        pixel_weights: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        self.scale = dim**-0.5
        self.has_language_weighting = has_language_weighting
        self.has_vision_weighting = has_vision_weighting
        self.pixel_weights = pixel_weights
        self.visual_input = nn.Linear(dim, dim, bias=False)
        self.word_input = nn.Linear(word_dim, dim, bias=False)
        self.visual_norm, self.word_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.visual_output, self.word_output = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.sentence_input = nn.Linear(sentence_dim, dim) if has_feedback else None
        self.feedback = (
            nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
            if has_feedback
            else None
        )

    def forward(
        self,
        visual_tokens: Float[Tensor, "expr pixels dim"],
        word_features: Float[Tensor, "expr tokens word_dim"],
        sentence: Float[Tensor, "expr sentence_dim"],
        token_mask: Bool[Tensor, "expr tokens"],
    ) -> tuple[Float[Tensor, "expr pixels dim"], Float[Tensor, "expr tokens dim"]]:
        """Return language-aware visual tokens and vision-aware words.

        Args:
            visual_tokens: F_v.
            word_features: F_l, padding included.
            sentence: F_s.
            token_mask: True = real token; no pixel gathers padding.
        """
        words = self.word_input(word_features)
        visual = self.visual_input(visual_tokens)
        attention = self._attend(visual, words, token_mask)
        aware = self._gather_words(visual, words, attention)
        if self.feedback is not None and self.sentence_input is not None:
            modulated = self._modulate(aware, self.sentence_input(sentence))
            visual_again = self.visual_input(visual_tokens + self.feedback(modulated))
            attention_again = self._attend(visual_again, words, token_mask)
            aware = self._gather_words(visual_again, words, attention_again)
        return aware, self._gather_pixels(visual, words, attention)

    def _attend(
        self, visual: Tensor, words: Tensor, token_mask: Tensor
    ) -> Float[Tensor, "expr pixels tokens"]:
        """Equation 1."""
        scores = visual @ words.transpose(1, 2) * self.scale
        weights: Tensor = scores.masked_fill(~token_mask[:, None], float("-inf")).softmax(dim=2)
        return weights

    def _gather_words(self, visual: Tensor, words: Tensor, attention: Tensor) -> Tensor:
        """Equation 2, first line: language-weighted attention."""
        gathered = attention @ words + visual if self.has_language_weighting else visual
        aware: Tensor = self.visual_output(self.visual_norm(gathered))
        return aware

    def _gather_pixels(self, visual: Tensor, words: Tensor, attention: Tensor) -> Tensor:
        """Equation 2, second line: vision-weighted attention."""
        if self.has_vision_weighting:
            weights = attention.transpose(1, 2)
            if self.pixel_weights == "mean":
                weights = weights / weights.sum(dim=2, keepdim=True).clamp(min=1e-6)
            words = weights @ visual + words
        aware: Tensor = self.word_output(self.word_norm(words))
        return aware

    def _modulate(
        self, aware: Float[Tensor, "expr pixels dim"], sentence: Float[Tensor, "expr dim"]
    ) -> Float[Tensor, "expr pixels dim"]:
        """Equation 3: the sentence is added where it fits; weights sum to one over the pixels."""
        weights = (aware @ sentence[:, :, None] * self.scale).softmax(dim=1)
        modulated: Tensor = weights * sentence[:, None] + aware
        return modulated


class CrossAttentionBlock(nn.Module):
    """What Table II, #3 puts in place of `FeedbackAttention`: pixels ask words, bottom-up.

    Words are mapped to ``dim`` channels and otherwise left as they are.

    Source:
        HARIS, section IV.D; Transformer decoder layer without self-attention.
    """

    def __init__(self, dim: int, word_dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.word_output = nn.Linear(word_dim, dim)
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.attention_norm, self.output_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.perceptron = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(
        self,
        visual_tokens: Float[Tensor, "expr pixels dim"],
        word_features: Float[Tensor, "expr tokens word_dim"],
        sentence: Float[Tensor, "expr sentence_dim"],
        token_mask: Bool[Tensor, "expr tokens"],
    ) -> tuple[Float[Tensor, "expr pixels dim"], Float[Tensor, "expr tokens dim"]]:
        """Return visual tokens and words as `FeedbackAttention` does; the sentence is not read."""
        words = self.word_output(word_features)
        gathered, _ = self.attention(
            visual_tokens, words, words, key_padding_mask=~token_mask, need_weights=False
        )
        tokens = self.attention_norm(visual_tokens + gathered)
        return self.output_norm(tokens + self.perceptron(tokens)), words


class HierarchicalFusion(nn.Module):
    """Join the language-aware map and the next level by a 3 x 3 convolution, norm and ReLU.

    The convolution of two concatenated maps is the sum of two convolutions; that of the level,
    which knows no words, is computed once per image.

    Source:
        HARIS, equation 4.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.aware_convolution = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.level_convolution = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(dim)

    def forward(
        self,
        aware: Float[Tensor, "expr dim h w"],
        level: Float[Tensor, "images dim h w"],
        *,
        image_index: Int[Tensor, "expr"],
    ) -> Float[Tensor, "expr dim h w"]:
        """Return the visual input of the next block."""
        per_image = self.level_convolution(level)
        convolved = self.aware_convolution(aware) + select_rows(per_image, image_index)
        return torch.relu(self.norm(convolved))
