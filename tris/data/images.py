"""Photographs as people hand them over, read as plain RGB."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tris.errors import InputError

MAX_IMAGE_PIXELS = 100_000_000
"""Larger photographs are refused: RGB alone would take 300 MB each, in every worker."""

READ_ERRORS = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
)
"""What Pillow raises on damaged files."""


def read_photograph(path: Path | str, *, is_turned: bool = False) -> Image.Image:
    """Read a photograph as 8-bit RGB.

    Grey, palette, CMYK and 16-bit files are converted; transparency is laid on white.

    Args:
        path: The file.
        is_turned: Apply the EXIF orientation (``Referent.is_turned``); otherwise the pixels are
            taken as they are stored, as COCO's annotations expect.

    Raises:
        InputError: If it is missing, empty, truncated, no image, or over 100 megapixels.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"The photograph {path} is missing.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise InputError(f"The photograph {path} is over 100 megapixels: shrink it.")
                upright = ImageOps.exif_transpose(image) if is_turned else image
                return as_rgb(upright)
    except READ_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The photograph {path} cannot be read ({error}).") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Return 8-bit RGB of an image of any Pillow mode."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Bring 16-bit (0..65535) and float (0..1) grey to 0..255; Pillow would clip at 255."""
    scale = 255.0 if pixels.dtype.kind == "f" else 1 / 257
    return np.clip(np.rint(pixels * scale), 0, 255).astype(np.uint8)
