"""Predictions against one split of an index: rows of counts, one prediction after the other."""

from functools import cached_property

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from tris.data.index import Index, Referent, open_index
from tris.data.masks import decode_mask, encode_mask, resize_mask
from tris.errors import InputError
from tris.metrics.counts import count_row
from tris.metrics.predictions import Prediction
from tris.metrics.protocols import STANDARD, ScoringProtocol
from tris.metrics.rle import Rle, to_dense
from tris.metrics.rows import NUM_COLUMNS
from tris.metrics.saliency import SaliencyMean, decode_saliency, saliency_row
from tris.metrics.summary import compute_metrics


class Scorer:
    """Scores predictions as they come. Keeps one row per expression of the split, and no mask.

    Args:
        index: Truth; its masks must be there.
        protocol: See `ScoringProtocol`.
        resolution: Score in a square raster of this side (truth resized by nearest pixel) instead
            of original pixels.

    Attributes:
        num_extra: Predictions for expressions of other splits; they are passed over.
    """

    def __init__(
        self, index: Index, *, protocol: ScoringProtocol = STANDARD, resolution: int | None = None
    ) -> None:
        if not index.has_masks:
            raise InputError(_no_masks(index))
        self._index, self._protocol, self._resolution = index, protocol, resolution
        ids = index.column("expression_ids").combine_chunks().flatten().to_numpy()
        self._order = np.argsort(ids, kind="stable")
        self._sorted_ids = ids[self._order]
        self._rows = np.zeros((index.num_expressions, NUM_COLUMNS), dtype=np.int64)
        self._is_seen = np.zeros(index.num_expressions, dtype=bool)
        self._sequences: dict[str, int] = {}
        self._saliency = SaliencyMean()
        self._last: tuple[int, Referent] | None = None
        self.num_extra = 0

    def add(self, prediction: Prediction) -> None:
        """Score one prediction.

        Raises:
            InputError: If no split of the index has its expression, it comes a second time, or its
                mask or point does not fit the image.
        """
        expression = self._find(prediction)
        if expression is None:
            self.num_extra += 1
            return
        if self._is_seen[expression]:
            raise InputError(
                f"expression {prediction.expression_id} was already predicted above: keep one line."
            )
        self._count(expression, prediction)

    def missing(self) -> list[int]:
        """Return the ids of expressions without a prediction so far."""
        unseen = np.flatnonzero(~self._is_seen[self._order])
        return [int(value) for value in self._sorted_ids[unseen]]

    def fill_missing(self) -> None:
        """Score every expression without a prediction as an empty mask."""
        for expression in np.flatnonzero(~self._is_seen).tolist():
            nothing = Prediction(0, None, mask=None, no_target=True, point=None)
            self._count(expression, nothing)

    def rows(self) -> Int64[np.ndarray, "expr columns"]:
        """Return the rows of what was predicted so far."""
        return np.asarray(self._rows[self._is_seen])

    def metrics(self) -> dict[str, float]:
        """Return all metrics of what was predicted so far."""
        return compute_metrics(self.rows(), protocol=self._protocol) | self._saliency.metrics()

    def _find(self, prediction: Prediction) -> int | None:
        """Return the running number of the expression; None if another split has it."""
        wanted = prediction.expression_id
        left = int(np.searchsorted(self._sorted_ids, wanted, side="left"))
        right = int(np.searchsorted(self._sorted_ids, wanted, side="right"))
        candidates = self._order[left:right].tolist()
        if not candidates:
            if wanted in self._ids_of_other_splits:
                return None
            raise InputError(f"no split of {self._index.directory} has expression {wanted}.")
        if prediction.referent_id is not None:
            candidates = [
                expression
                for expression in candidates
                if self._referent(expression)[0].referent_id == prediction.referent_id
            ]
        if len(candidates) != 1:
            problem = "several referents have" if candidates else "another referent has"
            raise InputError(
                f'"ref_id" is {prediction.referent_id}, but {problem} expression {wanted}: give '
                "its own ref_id."
            )
        return int(candidates[0])

    @cached_property
    def _ids_of_other_splits(self) -> frozenset[int]:
        others = set(self._index.manifest.splits) - {self._index.split}
        columns = [
            open_index(self._index.directory, split).column("expression_ids") for split in others
        ]
        return frozenset(
            int(value)
            for column in columns
            for value in column.combine_chunks().flatten().to_numpy()
        )

    def _referent(self, expression: int) -> tuple[Referent, int]:
        row, position = self._index.expression_row(expression)
        if self._last is None or self._last[0] != row:
            self._last = row, self._index[row]
        return self._last[1], position

    def _count(self, expression: int, prediction: Prediction) -> None:
        referent, position = self._referent(expression)
        size = (referent.height, referent.width)
        mask, target = prediction.mask, referent.mask
        point, boxes = prediction.point, referent.boxes
        _check_fits(prediction, size, resolution=self._resolution)
        if self._resolution is not None:
            raster = (self._resolution, self._resolution)
            mask, target = _resized(mask, raster), _resized(target, raster)
            point, boxes = _scaled(point, boxes, size, raster)
            size = raster
        grey = None
        if self._protocol.with_saliency:
            original = (referent.height, referent.width)
            given = prediction.saliency
            grey = _dense(mask, size) if given is None else _read_grey(given, original, size)
        self._rows[expression] = count_row(
            mask,
            target,
            expression_id=referent.expression_ids[position],
            referent_id=referent.referent_id,
            size=size,
            is_no_target=referent.is_no_target,
            predicted_no_target=prediction.no_target,
            point=point,
            boxes=boxes,
            sequence_id=self._sequence(referent, expression),
            with_generated_boxes=self._protocol.box_rule == "generated",
            with_contours=self._protocol.with_contours,
        )
        self._is_seen[expression] = True
        if grey is not None:
            truth = None if referent.is_no_target else target
            self._saliency.add(saliency_row(grey, _dense(truth, size)))

    def _sequence(self, referent: Referent, expression: int) -> int:
        """Number the sequence (group) of a video frame; otherwise an expression is its own."""
        if not (self._protocol.with_contours and referent.group):
            return expression
        return self._sequences.setdefault(referent.group, len(self._sequences) + len(self._rows))


def _no_masks(index: Index) -> str:
    """Say why a split cannot be scored against."""
    if index.facts.masks_left_out:
        return (
            f"the split {index.split!r} of {index.directory} holds no masks to score against: "
            "prepare it again without --no-masks."
        )
    return (
        f"{len(index) - index.facts.masks} of {len(index)} rows of the split {index.split!r} of "
        f"{index.directory} have no mask to score against, because their source gives none: add "
        "them there, or score another split."
    )


def _check_fits(prediction: Prediction, size: tuple[int, int], *, resolution: int | None) -> None:
    height, width = size
    if prediction.mask is not None:
        found = tuple(prediction.mask["size"])
        allowed = {size} if resolution is None else {size, (resolution, resolution)}
        if found not in allowed:
            raise InputError(
                f"the mask is {found[0]} x {found[1]} pixels (height x width), the image {height} "
                f"x {width}: resize predictions to original pixels first."
            )
    if prediction.point is not None:
        x, y = prediction.point
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"the point ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels "
                "(width x height): give [x, y] in original pixels."
            )


def _resized(mask: Rle | None, raster: tuple[int, int]) -> Rle | None:
    if mask is None or tuple(mask["size"]) == raster:
        return mask
    return encode_mask(resize_mask(decode_mask(mask), raster))


def _scaled(
    point: tuple[float, float] | None,
    boxes: tuple[tuple[float, float, float, float], ...],
    size: tuple[int, int],
    raster: tuple[int, int],
) -> tuple[tuple[float, float] | None, tuple[tuple[float, float, float, float], ...]]:
    """Move a point (its pixel's centre) and boxes to the raster."""
    down, right = raster[0] / size[0], raster[1] / size[1]
    if point is not None:
        point = (int(point[0]) + 0.5) * right, (int(point[1]) + 0.5) * down
    return point, tuple((x * right, y * down, w * right, h * down) for x, y, w, h in boxes)


def _dense(mask: Rle | None, size: tuple[int, int]) -> np.ndarray:
    return np.zeros(size, dtype=bool) if mask is None else to_dense(mask)


def _read_grey(
    text: str, size: tuple[int, int], raster: tuple[int, int]
) -> UInt8[np.ndarray, "height width"]:
    grey = decode_saliency(text, size)
    if raster == size:
        return grey
    height, width = raster
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR))
