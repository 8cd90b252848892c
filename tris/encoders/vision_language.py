"""A staged vision encoder and a word encoder, chosen by name."""

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from tris.encoders.bert import BertConfig
from tris.encoders.clip import ClipConfig, ClipEncoder
from tris.encoders.clip_stages import ClipTower, ClipWords
from tris.encoders.resnet import ResNetConfig
from tris.encoders.staged import StagedBackbone, WordEncoder
from tris.encoders.swin import SwinConfig


@dataclass(frozen=True)
class VisionLanguageConfig:
    """Which encoders; the defaults are those of DMMI and MABP: Swin-B and BERT-base.

    Attributes:
        vision: Which of the descriptions below makes the vision encoder.
        words: Which of them makes the word encoder.
        swin: Read where ``vision`` is ``swin``.
        resnet: Read where ``vision`` is ``resnet``.
        bert: Read where ``words`` is ``bert``.
        clip: Read where either is ``clip``; where both are, they are the towers of one CLIP.
    """

    vision: Literal["swin", "resnet", "clip"] = "swin"
    words: Literal["bert", "clip"] = "bert"
    swin: SwinConfig = field(default_factory=SwinConfig)
    resnet: ResNetConfig = field(default_factory=ResNetConfig)
    bert: BertConfig = field(default_factory=BertConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)

    def build(self, *, pretrained: bool = True) -> "VisionLanguageEncoder":
        """Make both; ``pretrained=False`` leaves the weights random."""
        clip = (
            self.clip.build(pretrained=pretrained) if "clip" in (self.vision, self.words) else None
        )
        return VisionLanguageEncoder(
            _build_vision(self, clip, pretrained=pretrained),
            _build_words(self, clip, pretrained=pretrained),
            assets=clip.assets if clip else {},
        )


class VisionLanguageEncoder(nn.Module):
    """Both encoders.

    Attributes:
        vision: Run stage by stage.
        words: Gives one vector per token.
        assets: Files that came with their weights (a tokenizer), by name.
    """

    def __init__(
        self, vision: StagedBackbone, words: WordEncoder, *, assets: dict[str, bytes] | None = None
    ) -> None:
        super().__init__()
        self.vision, self.words = vision, words
        self.assets = dict(assets or {})

    @classmethod
    def from_clip(
        cls, clip: ClipEncoder, *, assets: dict[str, bytes] | None = None
    ) -> "VisionLanguageEncoder":
        """Take both towers out of a CLIP."""
        return cls(ClipTower(clip), ClipWords(clip), assets=assets)


def _build_vision(
    config: VisionLanguageConfig, clip: ClipEncoder | None, *, pretrained: bool
) -> StagedBackbone:
    if config.vision == "swin":
        return config.swin.build(pretrained=pretrained)
    if config.vision == "resnet":
        return config.resnet.build(pretrained=pretrained)
    assert clip is not None
    return ClipTower(clip)


def _build_words(
    config: VisionLanguageConfig, clip: ClipEncoder | None, *, pretrained: bool
) -> WordEncoder:
    if config.words == "bert":
        return config.bert.build(pretrained=pretrained)
    assert clip is not None
    return ClipWords(clip)
