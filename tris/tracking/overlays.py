"""Masks and response maps drawn over photographs.

Colours are from Okabe and Ito's palette, which people with any colour vision tell apart; every
region also has a contour with a light rim, so that it shows on a ground of its own colour.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from tris.batch import IGNORE_INDEX

Colour = tuple[int, int, int]
Image = UInt8[np.ndarray, "_ _ 3"]
Mask = Bool[np.ndarray, "_ _"] | UInt8[np.ndarray, "_ _"]

PREDICTION_COLOUR: Colour = (230, 159, 0)
LABEL_COLOUR: Colour = (86, 180, 233)
TRUTH_COLOUR: Colour = (0, 158, 115)
PEAK_COLOUR: Colour = (213, 94, 0)
REFUSAL = "nothing here"
"""What is written where a network says that nothing fits."""

_WHITE: Colour = (255, 255, 255)
_BLACK: Colour = (0, 0, 0)
_HATCH_PERIOD = 6


def draw_overlay(
    image: Image,
    mask: Mask,
    *,
    peak: tuple[int, int] | None = None,
    color: Colour = PREDICTION_COLOUR,
    alpha: float = 0.4,
) -> Image:
    """Return the photograph with the mask tinted and outlined, and everything else dimmed.

    Args:
        image: RGB.
        mask: True or 1 = object; `IGNORE_INDEX` = undecided, drawn as grey hatching.
        peak: x, y of the map's peak in pixels of ``image``; marked with a ring.
        color: RGB of the object.
        alpha: Share of the colour inside the object, in [0, 1].

    Raises:
        ValueError: If image and mask differ in size.
    """
    _check_same_size(image, mask)
    ignored = _is_ignored(mask)
    foreground = (mask != 0) & ~ignored
    drawn = _dim(image, strength=0.35)
    drawn[foreground] = _blend(image, color, alpha)[foreground]
    _hatch(drawn, ignored)
    _outline(drawn, foreground, color)
    if peak is not None:
        return mark_peak(drawn, peak)
    return drawn


def draw_refusal(image: Image) -> Image:
    """Return the dimmed photograph with `REFUSAL` across it: no object, no peak."""
    drawn, (height, width) = _dim(image, strength=0.35), image.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_width, text_height), _ = cv2.getTextSize(REFUSAL, font, 1.0, 1)
    scale = min(0.8 * width / text_width, 0.25 * height / text_height)
    start = round((width - scale * text_width) / 2), round((height + scale * text_height) / 2)
    thickness = _line_width(drawn)
    for color, extra in ((_BLACK, 2), (_WHITE, 0)):
        cv2.putText(drawn, REFUSAL, start, font, scale, color, thickness + extra, cv2.LINE_AA)
    return drawn


def draw_response(image: Image, response: Float[np.ndarray, "h w"]) -> Image:
    """Return the response as a heat map over the photograph in grey.

    Args:
        image: RGB.
        response: Any size and scale; it is stretched to the image. Values <= 0 do not show, the
            largest is the brightest.

    Raises:
        ValueError: If the response is not finite.
    """
    if not np.isfinite(response).all():
        raise ValueError("a response map with NaN or infinite values cannot be drawn.")
    height, width = image.shape[:2]
    heat = np.maximum(response.astype(np.float32), 0.0)
    heat = np.clip(cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC), 0.0, None)
    heat /= max(float(heat.max()), np.finfo(np.float32).tiny)
    levels = np.round(255 * heat).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    share = (0.9 * np.sqrt(heat))[..., None]
    drawn: Image = np.round((1 - share) * 0.8 * grey + share * colours).astype(np.uint8)
    return drawn


def peak_of(response: Float[np.ndarray, "h w"], size: tuple[int, int]) -> tuple[int, int]:
    """Return x, y of the largest response in pixels of an image of ``size`` = height, width."""
    rows, columns = response.shape
    row, column = divmod(int(np.argmax(response)), columns)
    return int((column + 0.5) * size[1] / columns), int((row + 0.5) * size[0] / rows)


def mark_peak(image: Image, peak: tuple[int, int]) -> Image:
    """Return the image with a ring and a dot at x, y: dark, light, colour, so on any ground."""
    drawn = image.copy()
    thickness = _line_width(drawn)
    radius = max(4, round(0.028 * max(drawn.shape[:2])))
    for color, extra in ((_BLACK, 4), (_WHITE, 2), (PEAK_COLOUR, 0)):
        cv2.circle(drawn, peak, radius, color, thickness + extra, cv2.LINE_AA)
    for color, size in ((_WHITE, thickness + 1), (PEAK_COLOUR, thickness)):
        cv2.circle(drawn, peak, size, color, cv2.FILLED, cv2.LINE_AA)
    return drawn


def _check_same_size(image: Image, mask: Mask) -> None:
    if image.shape[:2] != mask.shape:
        raise ValueError(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels came with a mask of "
            f"{mask.shape[1]} x {mask.shape[0]}; both must be in the same pixels."
        )


def _is_ignored(mask: Mask) -> Bool[np.ndarray, "height width"]:
    return np.asarray(mask.view(np.uint8) == IGNORE_INDEX)


def _dim(image: Image, *, strength: float) -> Image:
    """Take colour and brightness out, so that the object stands forward."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    mixed = (1 - strength) * image + strength * grey
    dimmed: Image = np.round((1 - 0.6 * strength) * mixed).astype(np.uint8)
    return dimmed


def _blend(image: Image, color: Colour, alpha: float) -> Image:
    mixed: Image = np.round((1 - alpha) * image + alpha * np.array(color)).astype(np.uint8)
    return mixed


def _hatch(drawn: Image, ignored: Bool[np.ndarray, "height width"]) -> None:
    rows, columns = np.indices(ignored.shape)
    stripe = (rows + columns) % _HATCH_PERIOD < _HATCH_PERIOD // 2
    drawn[ignored & stripe] = (150, 150, 150)
    drawn[ignored & ~stripe] = (105, 105, 105)


def _outline(drawn: Image, foreground: Bool[np.ndarray, "height width"], color: Colour) -> None:
    contours, _ = cv2.findContours(
        foreground.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    thickness = _line_width(drawn)
    cv2.drawContours(drawn, contours, -1, _WHITE, thickness + 2, cv2.LINE_AA)
    cv2.drawContours(drawn, contours, -1, color, thickness, cv2.LINE_AA)


def _line_width(image: Image) -> int:
    longest: int = max(image.shape[:2])
    return max(1, round(longest / 160))
