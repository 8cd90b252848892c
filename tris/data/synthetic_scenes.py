"""Scenes of the embedded data set: what lies where, and how it is drawn.

Coordinates are fractions of the image side: x to the right, y down, (0, 0) = top left corner.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from tris.errors import InputError

SHAPES = ("circle", "square", "triangle", "star")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "green": (45, 160, 65),
    "blue": (45, 85, 215),
    "yellow": (240, 215, 45),
    "purple": (145, 60, 175),
    "orange": (240, 130, 30),
}
SIZES: dict[str, tuple[float, float]] = {"small": (0.09, 0.115), "large": (0.16, 0.19)}
"""Radius of the circle around the object, fraction of the image side: lowest, highest."""
PATTERNS = ("plain", "striped")

_MORE_COLORS = {"pink": (245, 150, 190), "white": (240, 240, 240)}
ALL_COLORS = COLORS | _MORE_COLORS
ALL_SHAPES = (*SHAPES, "cross", "ring")
ALL_PATTERNS = (*PATTERNS, "dotted", "checked")

_SUPERSAMPLING = 4
_ROUNDS = 60
_SHADOW_OFFSET = 0.02
_SHADOW_STRENGTH = 0.45


@dataclass(frozen=True)
class SceneObject:
    """One object; later objects of a scene lie in front of earlier ones.

    Attributes:
        shape: One of `ALL_SHAPES`.
        color: One of `ALL_COLORS`.
        size: One of `SIZES`.
        pattern: One of `ALL_PATTERNS`.
        x: Centre.
        y: Centre.
        radius: Of the circle around it.
        angle: Rotation, radians.
    """

    shape: str
    color: str
    size: str
    pattern: str
    x: float
    y: float
    radius: float
    angle: float

    @property
    def look(self) -> tuple[str, str, str, str]:
        """Everything that a sentence can say of the object alone."""
        return self.size, self.pattern, self.color, self.shape


@dataclass(frozen=True)
class SceneRules:
    """Which scenes may be drawn.

    Attributes:
        image_size: Side of the square image, pixels.
        min_objects: Fewest objects in an image, two or more: sentences relate one to another.
        max_objects: Most objects in an image.
        striped_share: Chance that an object is striped.
        min_visible: Share of each object's own pixels that no object in front may cover.
    """

    image_size: int = 96
    min_objects: int = 2
    max_objects: int = 4
    striped_share: float = 0.25
    min_visible: float = 0.6

    def __post_init__(self) -> None:
        """Check the fields."""
        if not 2 <= self.min_objects <= self.max_objects:
            raise InputError(
                f"min_objects is {self.min_objects} and max_objects {self.max_objects}; use 2 or "
                "more, the first no larger than the second."
            )


@dataclass(frozen=True)
class Palette:
    """What scenes are made of.

    Attributes:
        shapes: Among `ALL_SHAPES`.
        colors: Among `ALL_COLORS`.
        patterns: Among `ALL_PATTERNS`; the first is the plain one.
        sizes: As `SIZES`.
        closest: Least distance of two centres, in sums of their radii: lower = more occlusion.
    """

    shapes: tuple[str, ...] = SHAPES
    colors: tuple[str, ...] = tuple(COLORS)
    patterns: tuple[str, ...] = PATTERNS
    sizes: tuple[tuple[str, tuple[float, float]], ...] = tuple(SIZES.items())
    closest: float = 0.72


BASIC = Palette()
HARD = Palette(
    shapes=ALL_SHAPES,
    colors=tuple(ALL_COLORS),
    patterns=ALL_PATTERNS,
    sizes=(("small", (0.075, 0.095)), ("large", (0.135, 0.165))),
    closest=0.6,
)


def sample_scene(
    rules: SceneRules, rng: np.random.Generator, palette: Palette = BASIC
) -> tuple[tuple[SceneObject, ...], Float[np.ndarray, "objects side side"]]:
    """Draw the objects of one scene, and the coverage of each (see `draw_coverage`).

    No two objects of a scene look the same (see `SceneObject.look`), so each can be described.
    """
    count = int(rng.integers(rules.min_objects, rules.max_objects + 1))
    looks = _sample_looks(count, rules, rng, palette)
    while True:
        objects = _place(looks, rng, palette)
        if objects is None:
            continue
        coverage = np.stack([draw_coverage(thing, rules.image_size) for thing in objects])
        own = (coverage >= 0.5).sum(axis=(1, 2))
        if (visible_masks(coverage).sum(axis=(1, 2)) >= rules.min_visible * own).all():
            return objects, coverage


def draw_coverage(thing: SceneObject, side: int) -> Float[np.ndarray, "side side"]:
    """Return which share of each pixel the whole object covers, occlusion aside."""
    rows, columns = _window(thing, side, margin=2)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    fine = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    corners = (_outline(thing) * side - (columns.start, rows.start)) * _SUPERSAMPLING - 0.5
    outlines = [np.round(corners * 16).astype(np.int32)]
    if thing.shape == "ring":
        middle = corners.mean(axis=0)
        outlines.append(np.round((middle + 0.5 * (corners - middle)) * 16).astype(np.int32))
    cv2.fillPoly(fine, outlines, 255, shift=4)
    coverage = np.zeros((side, side), np.float32)
    patch = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    coverage[rows, columns] = patch / np.float32(255)
    return coverage


def visible_masks(
    coverage: Float[np.ndarray, "objects side side"],
) -> Bool[np.ndarray, "objects side side"]:
    """Cut the objects in front out of those behind."""
    masks = coverage >= 0.5
    taken = np.zeros_like(masks[0])
    for mask in masks[::-1]:
        mask &= ~taken
        taken |= mask
    return np.asarray(masks, bool)


def render(
    objects: tuple[SceneObject, ...],
    coverage: Float[np.ndarray, "objects side side"],
    rng: np.random.Generator,
    *,
    background: Float[np.ndarray, "side side 3"] | None = None,
) -> UInt8[np.ndarray, "side side 3"]:
    """Paint the scene, RGB.

    Args:
        objects: From back to front.
        coverage: As `draw_coverage` returns it for each object.
        rng: Draws shades and noise.
        background: Values in [0, 255]; None = smooth noise.
    """
    side = coverage.shape[1]
    image = _background(side, rng) if background is None else background.copy()
    offset = np.array([[1, 0, _SHADOW_OFFSET * side], [0, 1, _SHADOW_OFFSET * side]], np.float32)
    for thing, whole in zip(objects, coverage, strict=True):
        window = _window(thing, side, margin=math.ceil(0.08 * side))
        canvas, covered = image[window], whole[window][..., None]
        moved = cv2.warpAffine(whole[window], offset, covered.shape[1::-1])
        shadow = cv2.GaussianBlur(moved, (0, 0), side / 60)
        canvas *= 1 - _SHADOW_STRENGTH * shadow[..., None]
        canvas += covered * (_paint(thing, side, window, rng) - canvas)
    image += 2.5 * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def _sample_looks(
    count: int, rules: SceneRules, rng: np.random.Generator, palette: Palette
) -> list[tuple[str, str, str, str]]:
    looks: list[tuple[str, str, str, str]] = []
    colors, shapes = palette.colors, palette.shapes
    sizes = tuple(name for name, _ in palette.sizes)
    patterned = palette.patterns[1:]
    while len(looks) < count:
        look = (
            sizes[rng.integers(len(sizes))],
            _pick_pattern(palette.patterns[0], patterned, rules.striped_share, rng),
            colors[rng.integers(len(colors))],
            shapes[rng.integers(len(shapes))],
        )
        if look not in looks:
            looks.append(look)
    return looks


def _pick_pattern(
    plain: str, patterned: tuple[str, ...], share: float, rng: np.random.Generator
) -> str:
    if rng.random() >= share:
        return plain
    return patterned[int(rng.integers(len(patterned))) if len(patterned) > 1 else 0]


def _place(
    looks: list[tuple[str, str, str, str]], rng: np.random.Generator, palette: Palette
) -> tuple[SceneObject, ...] | None:
    """Find a place for each object in turn, None where one finds none."""
    objects: list[SceneObject] = []
    radii, closest = dict(palette.sizes), palette.closest
    for size, pattern, color, shape in looks:
        radius = float(rng.uniform(*radii[size]))
        angle = float(rng.uniform(-0.25, 0.25))
        for x, y in rng.uniform(radius + 0.01, 0.99 - radius, (_ROUNDS, 2)).tolist():
            if all(math.hypot(x - o.x, y - o.y) >= closest * (radius + o.radius) for o in objects):
                objects.append(SceneObject(shape, color, size, pattern, x, y, radius, angle))
                break
        else:
            return None
    return tuple(objects)


def _outline(thing: SceneObject) -> Float[np.ndarray, "corners 2"]:
    if thing.shape in ("circle", "ring"):
        turns, radii = np.linspace(0, 1, 49)[:-1], np.full(48, 0.92)
    elif thing.shape == "square":
        turns, radii = np.arange(4) / 4 + 0.125, np.full(4, 1.08)
    elif thing.shape == "triangle":
        turns, radii = np.arange(3) / 3 - 0.25, np.full(3, 1.1)
    elif thing.shape == "cross":
        arm = 0.117  # of a turn: half the angle under which an arm's end is seen
        turns = np.concatenate([[t - arm / 2, t + arm / 2, t + 0.125] for t in np.arange(4) / 4])
        radii = np.tile([1.0, 1.0, 0.51], 4)
    else:
        turns, radii = np.arange(10) / 10 - 0.25, np.tile([1.1, 0.5], 5)
    angles = 2 * math.pi * turns + thing.angle
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray((thing.x, thing.y) + thing.radius * radii[:, None] * circle)


def _window(thing: SceneObject, side: int, *, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns that show the object, with a margin in pixels."""
    reach = math.ceil(1.1 * thing.radius * side) + margin
    center_row, center_column = int(thing.y * side), int(thing.x * side)
    rows = slice(max(center_row - reach, 0), min(center_row + reach + 1, side))
    columns = slice(max(center_column - reach, 0), min(center_column + reach + 1, side))
    return rows, columns


def _paint(
    thing: SceneObject, side: int, window: tuple[slice, slice], rng: np.random.Generator
) -> Float[np.ndarray, "rows columns 3"]:
    """Return the object's surface over the window: colour, light from above, stripes."""
    y, x = np.mgrid[window].astype(np.float32) / side
    color = np.array(ALL_COLORS[thing.color], np.float32) + rng.uniform(-12, 12, 3).astype(
        np.float32
    )
    light = 1 - 0.18 * (y - thing.y) / thing.radius
    surface = color * light[..., None]
    if thing.pattern == "striped":
        turn = float(rng.uniform(0, math.pi))
        across = (x - thing.x) * math.cos(turn) + (y - thing.y) * math.sin(turn)
        band = np.clip(0.5 + 2 * np.sin(across * (2 * math.pi / 0.065)), 0, 1)
        bright = 90 if thing.color == "white" else 255
        surface += band[..., None] * 0.75 * (bright - surface)
    elif thing.pattern in ("dotted", "checked"):
        across, along = ((x - thing.x) / 0.03, (y - thing.y) / 0.03)
        if thing.pattern == "dotted":
            wave = np.cos(math.pi * across) * np.cos(math.pi * along) - 0.25
        else:
            wave = np.sin(math.pi * across / 1.2) * np.sin(math.pi * along / 1.2)
        mark = np.clip(0.5 + 4 * wave, 0, 1)
        bright = 90 if thing.color == "white" else 255
        surface += mark[..., None] * 0.75 * (bright - surface)
    return np.asarray(surface, np.float32)


def _background(side: int, rng: np.random.Generator) -> Float[np.ndarray, "side side 3"]:
    """Return smooth noise of low saturation."""
    tint = rng.uniform(90, 190) + rng.uniform(-15, 15, 3)
    noise = rng.normal(0, 18, (5, 5, 1)) + rng.normal(0, 7, (5, 5, 3))
    coarse = (tint + noise).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)
