"""The anti-expression: the sentence behind the prefix ``<no>``, as token ids."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tris.data.tokens import Tokenizer
from tris.errors import InputError

ANTI_PREFIX = "<no>"


def prefix_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the ids of the prefix, without start and end.

    Raises:
        InputError: If a sentence would have no room beside it.
    """
    prefix = tuple(tokenizer.encode_words(ANTI_PREFIX))
    length = tokenizer.config.context_length
    if len(prefix) + 3 > length:
        raise InputError(
            f"A context of {length} tokens has no room for a word behind the {len(prefix)} tokens "
            f"of {ANTI_PREFIX}: use {len(prefix) + 3} or more."
        )
    return prefix


def negate(
    token_ids: Int[Tensor, "expr tokens"],
    token_mask: Bool[Tensor, "expr tokens"],
    prefix: tuple[int, ...],
) -> tuple[Int[Tensor, "expr tokens"], Bool[Tensor, "expr tokens"]]:
    """Put a prefix behind the first token of every sentence; the length stays.

    A sentence that is too long then loses its last words and keeps its end token.

    Args:
        token_ids: Start token, words, end token, padding.
        token_mask: True = real token; at least the start and the end are.
        prefix: Ids of the prefix.

    Returns:
        Ids and mask.

    Source:
        GRSer (arXiv 2305.12452), section 3.1.
    """
    num_tokens, added = token_ids.shape[1], len(prefix)
    lengths = token_mask.sum(dim=1, keepdim=True)
    new_lengths = (lengths + added).clamp(max=num_tokens)
    places = torch.arange(num_tokens, device=token_ids.device)[None]
    sources = (places - added).clamp(min=0).expand_as(token_ids)
    sources = torch.where(places == new_lengths - 1, lengths - 1, sources)
    moved = token_ids.gather(1, sources)
    inserted = token_ids.new_tensor(prefix).expand(len(token_ids), added)
    behind = torch.cat([token_ids[:, :1], inserted, moved[:, 1 + added :]], dim=1)
    return behind, places < new_lengths
