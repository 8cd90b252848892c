"""Staged encoders of a segmenter: as its config says, or as stage 1 trained them."""

import dataclasses
from typing import Any, Protocol, TypeVar, runtime_checkable

from tris.batch import InputSpec
from tris.encoders.vision_language import VisionLanguageConfig, VisionLanguageEncoder
from tris.segmenters.stage_one import load_clip_source


@runtime_checkable
class StagedConfig(Protocol):
    """A segmenter's config that names staged encoders, or a stage 1 to take them from."""

    @property
    def encoder(self) -> VisionLanguageConfig:
        """Which encoders."""
        ...

    @property
    def input_spec(self) -> InputSpec:
        """What the network is fed."""
        ...

    @property
    def starts_from_stage1(self) -> bool:
        """Whether both encoders, and the tokenizer, are those that stage 1 trained."""
        ...

    @property
    def stage1_directory(self) -> str:
        """Model directory of the stage-1 network."""
        ...


AnyStagedConfig = TypeVar("AnyStagedConfig", bound=StagedConfig)


def build_staged_encoder(
    config: AnyStagedConfig, *, load: bool
) -> tuple[VisionLanguageEncoder, AnyStagedConfig]:
    """Return a segmenter's encoders, and its config with what stage 1 had to say.

    Args:
        config: Where it starts from stage 1, both towers of that CLIP are taken, and its
            description and tokenizer enter the config that is returned.
        load: False = weights come from a file later.

    Raises:
        InputError: If stage 1 is wanted and there is none, or it has no CLIP.
    """
    if not (load and config.starts_from_stage1):
        return config.encoder.build(pretrained=load), config
    source = load_clip_source(config.stage1_directory)
    changes: dict[str, Any] = {
        "encoder": dataclasses.replace(
            config.encoder, vision="clip", words="clip", clip=source.clip.config
        ),
        "input_spec": dataclasses.replace(config.input_spec, tokenizer=source.tokenizer),
    }
    described: Any = config
    replaced: AnyStagedConfig = dataclasses.replace(described, **changes)
    return VisionLanguageEncoder.from_clip(source.clip, assets=source.assets), replaced
