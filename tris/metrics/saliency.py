"""Co-saliency metrics, computed by `pysodmetrics` (published numbers: version 1.6.2), streamed."""

import base64
import io

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from PIL import Image
from scipy.special import expit

from tris.errors import InputError

NUM_THRESHOLDS = 256
_ID_COLUMNS = 2
_CURVE_START = _ID_COLUMNS + 3
NUM_SALIENCY_COLUMNS = _CURVE_START + NUM_THRESHOLDS
"""Expression id, referent id, MAE, S-measure, mean E-measure, F-measure per threshold."""


def saliency_row(
    prediction: UInt8[np.ndarray, "height width"] | Bool[np.ndarray, "height width"],
    target: UInt8[np.ndarray, "rows columns"] | Bool[np.ndarray, "rows columns"],
    *,
    expression_id: int = 0,
    referent_id: int = 0,
) -> Float64[np.ndarray, "figures"]:
    """Return the saliency figures of one image, of a fixed length, to be averaged or gathered.

    Args:
        prediction: Saliency 0-255, or a mask (True = 255). The library stretches each prediction
            to the full range.
        target: Every value but 0 is the object.
        expression_id: First column, for `tris.metrics.rows.merge_rows`.
        referent_id: Second column.

    Raises:
        InputError: If the two differ in size.
    """
    import py_sod_metrics as sod  # here, because importing it takes seconds

    if prediction.shape != target.shape:
        raise InputError(
            f"the saliency map is {prediction.shape} pixels, its truth {target.shape} (height, "
            "width): predict in original pixels."
        )
    saliency = prediction.astype(np.uint8) * 255 if prediction.dtype == bool else prediction
    truth = (target != 0).astype(np.uint8) * 255
    error, structure, alignment = sod.MAE(), sod.Smeasure(), sod.Emeasure()
    precision_recall = sod.FmeasureV2(
        {"fm": sod.FmeasureHandler(with_dynamic=True, with_adaptive=False, beta=0.3)}
    )
    for metric in (error, structure, alignment, precision_recall):
        metric.step(saliency, truth)
    row = np.concatenate(
        [
            [expression_id, referent_id, error.get_results()["mae"]],
            [structure.get_results()["sm"], alignment.get_results()["em"]["curve"].mean()],
            precision_recall.get_results()["fm"]["dynamic"],
        ]
    )
    return np.asarray(row, dtype=np.float64)


def to_grey(response: Float32[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """Return the probabilities of a map of logits, 255 = 1."""
    return np.asarray(np.round(255 * expit(response.astype(np.float64))), dtype=np.uint8)


def encode_saliency(grey: UInt8[np.ndarray, "height width"]) -> str:
    """Return a grey map as a line of predictions has it: an 8-bit PNG file in base64."""
    file = io.BytesIO()
    Image.fromarray(grey).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def decode_saliency(text: str, size: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
    """Return what `encode_saliency` wrote, or another 8-bit grey PNG file.

    Args:
        text: Base64.
        size: Height and width that it must have; nothing larger is unpacked.

    Raises:
        InputError: If it is something else.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as file:
            found, mode = (file.height, file.width), file.mode
            grey = np.asarray(file) if (found, mode) == (size, "L") else None
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError('"saliency" is no PNG file in base64.') from error
    if mode != "L":
        raise InputError('"saliency" must be a grey PNG file of 8 bits.')
    if grey is None:
        raise InputError(
            f'"saliency" is {found[0]} x {found[1]} pixels (height x width), the image {size[0]} x '
            f"{size[1]}: give it in original pixels."
        )
    return grey


class SaliencyMean:
    """Mean of saliency rows in constant memory, one image after the other."""

    def __init__(self) -> None:
        self._sum = np.zeros(NUM_SALIENCY_COLUMNS)
        self._num_images = 0

    def add(self, row: Float64[np.ndarray, "columns"]) -> None:
        """Take one `saliency_row`."""
        self._sum += row
        self._num_images += 1

    def metrics(self) -> dict[str, float]:
        """Return what `compute_saliency` returns for the rows so far."""
        return _read(self._sum / self._num_images) if self._num_images else {}


def compute_saliency(rows: Float64[np.ndarray, "images columns"]) -> dict[str, float]:
    """Return ``mae``, ``max_f_measure``, ``s_measure`` and ``mean_e_measure`` over images.

    Source:
        GRSer section 5.1; the F-measure weighs precision with beta squared = 0.3, and its maximum
        is taken over the thresholds of the mean curve.
    """
    return _read(rows.mean(axis=0)) if len(rows) else {}


def _read(mean: Float64[np.ndarray, "columns"]) -> dict[str, float]:
    error, structure, alignment = mean[_ID_COLUMNS:_CURVE_START].tolist()
    return {
        "mae": error,
        "max_f_measure": float(mean[_CURVE_START:].max()),
        "s_measure": structure,
        "mean_e_measure": alignment,
    }
