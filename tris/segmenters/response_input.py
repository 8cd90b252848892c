"""The frozen response of stage 1 as a further input of a segmenter."""

from typing import Any

from tris.errors import InputError
from tris.response.response_net import ResponseNet, ResponseNetConfig
from tris.segmenters.contract import Segmenter
from tris.segmenters.stage_one import check_same_input


def build_response_input(
    segmenter: Segmenter,
    directory: str,
    description: ResponseNetConfig | None,
    *,
    load: bool,
) -> ResponseNet:
    """Return a frozen response network that takes the segmenter's batches.

    Args:
        segmenter: Whose input it shares.
        directory: Model directory of stage 1, or "".
        description: Of that network, where its weights come with the segmenter's.
        load: Whether to read the directory.

    Raises:
        InputError: If neither is given, or the two networks cannot share a batch.
    """
    response: Any
    if load and directory:
        response = ResponseNet.from_pretrained(directory)
        check_same_input(response, segmenter)
    elif description is not None:
        response = description.build(pretrained=load)
    else:
        raise InputError(
            "The segmenter wants the response of stage 1 as input; name the model directory of a "
            "stage-1 network in `stage1_directory`."
        )
    frozen: ResponseNet = response.requires_grad_(False).eval()
    return frozen
