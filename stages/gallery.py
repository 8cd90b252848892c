"""A few expressions of a split, followed through every step, for people to look at."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from accelerate.utils import gather_object

from tris.data.images import read_photograph
from tris.data.index import Index, Referent
from tris.data.masks import decode_mask
from tris.metrics.evaluator import Prediction
from tris.metrics.iou import mask_from_response
from tris.metrics.point import find_peak
from tris.pseudo.label import PseudoLabel
from tris.tracking.panels import GalleryItem, merge_items

NUM_ITEMS = 24


class Gallery:
    """Collects what each step says about the same few expressions."""

    def __init__(self, index: Index, *, split: str) -> None:
        stride = max(1, index.num_expressions // NUM_ITEMS)
        self._index, self._split = index, split
        self._items: dict[int, GalleryItem] = {}
        self._wanted = {
            self._expression_id(number) for number in range(0, index.num_expressions, stride)
        }

    def responses(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Pass stage-1 maps on, keeping those of the gallery."""
        for each in predictions:
            if self._is_wanted(each):
                self._change(each.referent, each.position, response=each.response)
            yield each

    def masks(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Pass a segmenter's maps on, keeping those of the gallery."""
        for each in predictions:
            if self._is_wanted(each):
                mask = mask_from_response(each.response).astype(np.uint8)
                if each.no_target:
                    mask = np.zeros_like(mask)
                self._change(
                    each.referent, each.position, prediction=mask, peak=find_peak(each.response)
                )
            yield each

    def label(self, referent: Referent, label: PseudoLabel) -> None:
        """Keep a referent's label for each of its sentences in the gallery."""
        for position, expression_id in enumerate(referent.expression_ids):
            if expression_id in self._wanted and label.label is not None:
                self._change(referent, position, label=label.label)

    def gather(self) -> list[GalleryItem]:
        """Return what all processes collected, by expression id; each must call it."""
        items = merge_items(gather_object(list(self._items.values())))
        return sorted(items, key=lambda item: item.expression_id)

    def _is_wanted(self, prediction: Prediction) -> bool:
        return prediction.referent.expression_ids[prediction.position] in self._wanted

    def _expression_id(self, number: int) -> int:
        row, position = self._index.expression_row(number)
        return self._index[row].expression_ids[position]

    def _change(self, referent: Referent, position: int, **known: object) -> None:
        expression_id = referent.expression_ids[position]
        item = self._items.get(expression_id) or self._begin(referent, position)
        self._items[expression_id] = dataclasses.replace(item, **known)  # type: ignore[arg-type]

    def _begin(self, referent: Referent, position: int) -> GalleryItem:
        path = self._index.image_path(referent)
        types = referent.expression_types
        return GalleryItem(
            expression_id=referent.expression_ids[position],
            expression=referent.sentences[position],
            image=np.asarray(read_photograph(path, is_turned=referent.is_turned)),
            expression_type=types[position] if types else "",
            split=self._split,
            truth=decode_mask(referent.mask) if referent.mask else None,
        )
