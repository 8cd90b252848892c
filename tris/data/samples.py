"""From the index to samples, one expression each."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from tris.batch import IGNORE_INDEX, ExpressionSample, InputSpec
from tris.data.index import Index, Referent
from tris.data.masks import decode_mask
from tris.data.negatives import NegativeSampler, choose_text
from tris.data.plan import Item
from tris.data.recent import RecentReferents
from tris.data.tokens import Tokenizer, text_id
from tris.data.transforms import PhotographReader, fit_size, to_target
from tris.errors import InputError


@runtime_checkable
class LabelSource(Protocol):
    """Where stage 2 gets its targets: the store of pseudo-labels."""

    def get(
        self, dataset: str, referent_id: int
    ) -> dict[str, Any] | UInt8[np.ndarray, "height width"] | None:
        """Return a COCO RLE or pixels (0, 1, 255 = ignore) in original size; None = no label."""
        ...


class ExpressionDataset(Dataset[ExpressionSample]):
    """The expressions of one split, by running number.

    Masks are touched only where ``targets="truth"`` asks for them. A referent without a label has
    a target of `IGNORE_INDEX` alone.
    """

    def __init__(
        self,
        index: Index,
        spec: InputSpec,
        tokenizer: Tokenizer,
        *,
        targets: Literal["none", "truth"] | LabelSource = "none",
        text: Literal["clean", "raw"] = "clean",
        negatives: NegativeSampler | None = None,
        cache_images: bool = False,
    ) -> None:
        """Prepare reading.

        Args:
            index: The split.
            spec: What the network wants.
            tokenizer: Made of ``spec.tokenizer``.
            targets: Nothing, the annotated masks, or the labels of a source.
            text: Sentences as cleaned, or as typed.
            negatives: Where every expression's negatives come from, if it has any.
            cache_images: Keep decoded photographs in memory, per process.

        Raises:
            InputError: If masks are asked of an index that was prepared without them.
        """
        if targets == "truth" and not index.has_masks:
            raise InputError(
                f"The index {index.directory} has no masks for split {index.split}: prepare it "
                "with masks, or train on labels."
            )
        self.index, self.spec, self.tokenizer = index, spec, tokenizer
        self._targets, self._text = targets, text
        self._negatives = negatives if negatives and negatives.config.count else None
        self._referents = RecentReferents(index)
        self._reader = PhotographReader(index, spec, cache_images=cache_images)

    def __len__(self) -> int:
        return self.index.num_expressions

    def __getitem__(self, item: Item | int) -> ExpressionSample:
        """Return one expression; a bare number means epoch 0."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[Item | int]) -> list[ExpressionSample]:
        """Return several; every photograph and label is read once for all its expressions."""
        images: dict[int, Float[Tensor, "3 height width"]] = {}
        targets: dict[int, UInt8[Tensor, "height width"] | None] = {}
        places = [self._place(item) for item in items]
        tokens = self._tokens(places)
        for row, _, _ in places:
            referent = self._referents[row]
            if referent.image_id not in images:
                images[referent.image_id] = self._reader.read(referent)
            if row not in targets:
                targets[row] = self._target(referent)
        samples = [
            self._sample(row, position, images, targets[row], ids, mask)
            for (row, position, _), ids, mask in zip(places, *tokens, strict=True)
        ]
        return self._add_negatives(samples, places)

    def _place(self, item: Item | int) -> tuple[int, int, int]:
        """Return row, position within the row and epoch."""
        expression, epoch = item if isinstance(item, Item) else Item(item)
        return (*self.index.expression_row(expression), epoch)

    def _tokens(
        self, places: Sequence[tuple[int, int, int]]
    ) -> tuple[Int[Tensor, "expr tokens"], Bool[Tensor, "expr tokens"]]:
        return self.tokenizer([self._sentence(row, position) for row, position, _ in places])

    def _sentence(self, row: int, position: int) -> str:
        return choose_text(self._referents[row], self._text)[position]

    def _sample(
        self,
        row: int,
        position: int,
        images: dict[int, Float[Tensor, "3 height width"]],
        target: UInt8[Tensor, "height width"] | None,
        token_ids: Int[Tensor, "tokens"],
        token_mask: Bool[Tensor, "tokens"],
    ) -> ExpressionSample:
        referent = self._referents[row]
        original_size = (referent.height, referent.width)
        return ExpressionSample(
            image=images[referent.image_id],
            image_id=referent.image_id,
            original_size=original_size,
            content_size=fit_size(original_size, self.spec),
            token_ids=token_ids,
            token_mask=token_mask,
            referent_id=referent.referent_id,
            expression_id=referent.expression_ids[position],
            text_id=text_id(self._sentence(row, position)),
            target=target,
            is_no_target=referent.is_no_target,
        )

    def _add_negatives(
        self, samples: list[ExpressionSample], places: Sequence[tuple[int, int, int]]
    ) -> list[ExpressionSample]:
        if self._negatives is None:
            return samples
        count = self._negatives.config.count
        sentences = [
            sentence
            for row, position, epoch in places
            for sentence in self._negatives.sentences(row, position, epoch=epoch)
        ]
        ids, mask = (tokens.unflatten(0, (-1, count)) for tokens in self.tokenizer(sentences))
        return [
            sample._replace(negative_token_ids=ids[i], negative_token_mask=mask[i])
            for i, sample in enumerate(samples)
        ]

    def _target(self, referent: Referent) -> UInt8[Tensor, "height width"] | None:
        if self._targets == "none":
            return None
        label = (
            referent.mask
            if isinstance(self._targets, str)
            else self._targets.get(self.index.manifest.dataset, referent.referent_id)
        )
        if label is None:
            return torch.full(self.spec.image_size, IGNORE_INDEX, dtype=torch.uint8)
        mask = decode_mask(label) if isinstance(label, dict) else label
        if mask.shape != (referent.height, referent.width):
            raise InputError(
                f"The label of referent {referent.referent_id} is {mask.shape[0]} x "
                f"{mask.shape[1]}, its photograph {referent.height} x {referent.width}: make the "
                "labels again."
            )
        return to_target(mask, self.spec)
