"""Label rules that are used: for photographs, as published, and for the embedded data."""

from dataclasses import replace
from typing import Any

from tris.pseudo.contest import CompetitionConfig
from tris.pseudo.crf import PUBLISHED_CRF, CrfConfig
from tris.pseudo.label import LabelConfig


def with_kernels(config: LabelConfig, **kernels: Any) -> LabelConfig:  # noqa: ANN401 - fields
    """Return the config with other fields of the CRF, for a lone map and for those that compete.

    Args:
        config: Whose two CRFs are changed alike.
        kernels: Fields of `CrfConfig`.
    """
    common = replace(config.competing.crf, **kernels)
    return replace(
        config,
        crf=replace(config.crf, **kernels),
        competing=replace(config.competing, crf=common),
    )


PUBLISHED_LABELS = LabelConfig(
    normalisation="max",
    refiner="crf",
    rule="confident",
    foreground_threshold=0.3,
    background_threshold=0.1,
    degenerate="keep",
    working_size=None,
    crf=PUBLISHED_CRF,
)
"""IRNet's confident labels, as TRIS runs them, at the photograph's size."""

_SEGMENTER_CRF = CrfConfig(unary="logit", threshold=0.5, steepness=1.0)
SEGMENTER_LABELS = LabelConfig(
    normalisation="sigmoid",
    foreground_threshold=0.5,
    crf=_SEGMENTER_CRF,
    competition="image",
    competing=CompetitionConfig(crf=_SEGMENTER_CRF),
)
"""For a segmenter's maps, on photographs: probabilities, undecided at 0.5."""

_EMBEDDED_CRF = CrfConfig(
    unary="logit",
    steepness=1.0,
    num_iterations=5,
    gaussian_sxy=3.0,
    gaussian_compat=1.0,
    bilateral_sxy=16.0,
    bilateral_srgb=20.0,
    bilateral_compat=14.0,
)
EMBEDDED_LABELS = LabelConfig(
    normalisation="sigmoid",
    foreground_threshold=0.5,
    working_size=None,
    crf=_EMBEDDED_CRF,
    competing=CompetitionConfig(crf=replace(_EMBEDDED_CRF, threshold=0.5, bilateral_srgb=26.0)),
)
"""For the embedded data: response logits are probabilities, undecided at 0; plain colours on a
noisy ground bear a CRF that is stronger and less fine (``benchmarks/crf_embedded.py``; the common
one: ``benchmarks/competing_labels.py``)."""

EMBEDDED_COMPETING_LABELS = replace(EMBEDDED_LABELS, competition="image")
"""For maps that compete, on the embedded data, as settings were before they were chosen for the
maps of each recipe: what the harder scenes and later rounds of the paper's recipe still take."""

_MERGED_KERNELS = with_kernels(
    EMBEDDED_COMPETING_LABELS, bilateral_sxy=11.0, bilateral_srgb=30.0, bilateral_compat=20.0
)
EMBEDDED_MERGED_LABELS = replace(
    _MERGED_KERNELS,
    components="highest",
    competing=replace(_MERGED_KERNELS.competing, background_logit=-0.5),
)
"""For merged maps of stage 1 (``benchmarks/competing_labels.py``)."""

_SEGMENTER_KERNELS = with_kernels(EMBEDDED_COMPETING_LABELS, steepness=1.5, bilateral_sxy=11.0)
EMBEDDED_SEGMENTER_LABELS = replace(
    _SEGMENTER_KERNELS,
    components="highest",
    competing=replace(_SEGMENTER_KERNELS.competing, map_overlap=1.1),
)
"""For a segmenter's maps, which are finer than stage 1's, so that the CRF trusts them more
(``benchmarks/competing_labels.py --maps segmenter``). Two referents are the same object by their
ids and sentences alone: where their maps agree, the segmenter has confused them."""
