"""The frozen response of stage 1 as a further input of a segmenter."""

import dataclasses
from typing import Any, Protocol, TypeVar, runtime_checkable

from tris.errors import InputError
from tris.response.response_net import ResponseNet, ResponseNetConfig
from tris.segmenters.contract import Segmenter
from tris.segmenters.stage_one import check_same_input


@runtime_checkable
class ResponseInputConfig(Protocol):
    """A segmenter's config that says whether the response of stage 1 is an input."""

    @property
    def has_response_input(self) -> bool:
        """Whether it is."""
        ...

    @property
    def stage1_directory(self) -> str:
        """Model directory of the stage-1 network, or ""."""
        ...

    @property
    def response(self) -> ResponseNetConfig | None:
        """That network, where its weights come with the segmenter's."""
        ...


AnyResponseInputConfig = TypeVar("AnyResponseInputConfig", bound=ResponseInputConfig)


def build_response_input(
    segmenter: Segmenter, config: AnyResponseInputConfig, *, load: bool
) -> tuple[ResponseNet | None, AnyResponseInputConfig]:
    """Return a frozen response network that takes the segmenter's batches, and the config with it.

    Args:
        segmenter: Whose input it shares.
        config: Of that segmenter; without ``has_response_input`` there is no such network.
        load: Whether to read ``stage1_directory``.

    Raises:
        InputError: If the config names neither directory nor network, or the two networks cannot
            share a batch.
    """
    if not config.has_response_input:
        return None, config
    response: Any
    if load and config.stage1_directory:
        response = ResponseNet.from_pretrained(config.stage1_directory)
        check_same_input(response, segmenter)
    elif config.response is not None:
        response = config.response.build(pretrained=load)
    else:
        raise InputError(
            "The segmenter wants the response of stage 1 as input; name the model directory of a "
            "stage-1 network in `stage1_directory`."
        )
    frozen: ResponseNet = response.requires_grad_(False).eval()
    described: Any = config
    replaced: AnyResponseInputConfig = dataclasses.replace(described, response=frozen.config)
    return frozen, replaced
