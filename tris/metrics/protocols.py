"""What the published evaluators disagree on, as named policies, with one preset per evaluator."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

Scope = Literal["all", "targeted"]
EmptyUnion = Literal["zero", "one", "skip"]
Weighting = Literal["expression", "referent", "released_prms"]
NoTargetBy = Literal["head", "empty_mask", "either"]
MaskRule = Literal["above_zero", "peak_normalised"]
BoxRule = Literal["enclosing", "generated"]
AccuracyFormula = Literal["rates", "released_mabp"]


@dataclass(frozen=True)
class ScoringProtocol:
    """How rows of counts become numbers; see docs/metrics.md for a worked example.

    The defaults are the plain definitions (preset ``standard``).

    Attributes:
        name: Printed in the title of every table.
        mask_rule: How a response becomes a mask: ``above_zero``, or ``peak_normalised`` = divided
            by (its maximum + 1e-5), then above 1e-9 (released TRIS: a response that is negative
            everywhere becomes all foreground).
        scope: Expressions that `mean_iou`, `overall_iou` and `precision_at_*` look at: ``all``, or
            only the ``targeted`` ones.
        empty_union: IoU of an expression where prediction and truth are both empty.
        weighting: ``expression`` = each counts once; ``referent`` = each object counts once,
            however many sentences it has; ``released_prms`` = released TRIS PRMS evaluation, where
            an object with n sentences counts n times in means and n squared times in overall IoU.
        precision_is_strict: Whether an IoU exactly at the threshold fails.
        no_target_by: What says "nothing here": the ``head`` (the prediction's flag), the
            ``empty_mask``, or ``either``.
        minimum_area: A predicted mask of fewer pixels is taken as empty (MABP: 50).
        accuracy_formula: ``rates`` = share of no-target (targeted) expressions recognised as such;
            ``released_mabp`` = TP/(TP+FN+1) and TP/(TP+FP+1) as MABP's code has them.
        box_rule: Boxes of a prediction: the one ``enclosing`` its mask, or those ``generated`` as
            in released TRIS.
        box_is_strict: Whether a box IoU of exactly 0.5 fails.
        minimum_box_percent: Expressions whose truth boxes are all at most this share of the image
            are left out (released TRIS on ReferIt: 5).
        with_saliency: Whether Co-SOD metrics are wanted.
        with_contours: Whether region similarity and contour accuracy are wanted.
    """

    name: str = "standard"
    mask_rule: MaskRule = "above_zero"
    scope: Scope = "targeted"
    empty_union: EmptyUnion = "one"
    weighting: Weighting = "expression"
    precision_is_strict: bool = False
    no_target_by: NoTargetBy = "either"
    minimum_area: int = 0
    accuracy_formula: AccuracyFormula = "rates"
    box_rule: BoxRule = "enclosing"
    box_is_strict: bool = False
    minimum_box_percent: int = 0
    with_saliency: bool = False
    with_contours: bool = False


STANDARD = ScoringProtocol()

_TRIS = ScoringProtocol(
    name="tris",
    mask_rule="peak_normalised",
    scope="all",
    empty_union="skip",
    no_target_by="empty_mask",
    box_rule="generated",
    box_is_strict=True,
)
_LAVT = ScoringProtocol(name="lavt", scope="all", empty_union="zero", no_target_by="empty_mask")
_GREFCOCO = ScoringProtocol(name="grefcoco", empty_union="zero", no_target_by="head")

PROTOCOLS: Mapping[str, ScoringProtocol] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            STANDARD,
            _TRIS,
            replace(_TRIS, name="tris_prms", weighting="released_prms"),
            replace(_TRIS, name="tris_referit", minimum_box_percent=5),
            _LAVT,
            _GREFCOCO,
            replace(_GREFCOCO, name="mabp", no_target_by="either", minimum_area=50),
            replace(_GREFCOCO, name="mabp_released", accuracy_formula="released_mabp"),
            replace(_LAVT, name="refzom", scope="targeted"),
            replace(_LAVT, name="grser", scope="targeted", with_saliency=True),
            replace(_LAVT, name="mevis", scope="targeted", with_contours=True),
        )
    }
)
"""Preset by name."""
