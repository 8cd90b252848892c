"""The picture that `tris predict` writes and `tris demo` shows."""

import numpy as np
from PIL import Image

from tris.cli.inference import Prediction
from tris.tracking.overlays import Image as Pixels
from tris.tracking.overlays import draw_overlay, draw_refusal


def draw_prediction(photograph: Image.Image, prediction: Prediction) -> Pixels:
    """Return the RGB photograph with mask and peak, or with the words that nothing fits."""
    pixels = np.asarray(photograph)
    if prediction.no_target:
        return draw_refusal(pixels)
    return draw_overlay(pixels, prediction.mask, peak=prediction.peak)
