"""CLIP through open_clip: a feature pyramid, word features, and the joint embedding."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tris.batch import InputSpec
from tris.encoders import small_tower  # noqa: F401 - registers the tower with timm
from tris.encoders.weights import read_weights
from tris.errors import InputError, first_line
from tris.model_directory import PretrainedModel, load_state

open_clip.add_model_config(Path(__file__).parent / "tris-small.json")

PYRAMID_STAGES = [1, 2, 3, 4]
"""Of the tower's blocks: 0 is the stem."""


@dataclass(frozen=True)
class ClipConfig:
    """Which CLIP, with which weights.

    Attributes:
        architecture: An open_clip model name (``RN50-quickgelu``, not ``RN50``: OpenAI's weights
            want QuickGELU), or ``tris-small``.
        pretrained: An open_clip tag (``openai``), an open_clip checkpoint file, a model directory
            of this project, or "" for random weights.
        input_spec: Native input of the embedding (224 pixels for OpenAI's); the pyramid takes any
            size.
        vocabulary_size: Rows of the token embedding; 0 = as the architecture says.
    """

    architecture: str = "RN50-quickgelu"
    pretrained: str = "openai"
    input_spec: InputSpec = field(default_factory=lambda: InputSpec(image_size=(224, 224)))
    vocabulary_size: int = 0

    def build(self, *, pretrained: bool = True) -> "ClipEncoder":
        """Make the encoder; ``pretrained=False`` leaves the weights random."""
        return ClipEncoder(self, load=pretrained)


class ClipEncoder(PretrainedModel):
    """Both towers of a CLIP, open to the features inside.

    Attributes:
        clip: The open_clip module; its state-dict keys are CLIP's own.
        visual_channels: Channels of the four pyramid levels.
        word_dim: Width of the text tower.
        embed_dim: Width of the joint embedding.
    """

    config: ClipConfig

    def __init__(self, config: ClipConfig, *, load: bool = True) -> None:
        super().__init__()
        self.config = config
        self.clip: Any = _build_clip(config)
        if load and config.pretrained:
            self._load(config.pretrained)
        self.word_dim: int = self.clip.token_embedding.embedding_dim
        self.embed_dim: int = self.clip.text_projection.shape[1]
        self.visual_channels = self._probe_channels()

    @property
    def input_spec(self) -> InputSpec:
        """Native input of the embedding."""
        return self.config.input_spec

    def encode_pyramid(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> list[Float[Tensor, "images _ _ _"]]:
        """Return c1..c4, finest first, without the attention pooling.

        Strides are 4, 8, 16, 32 for a ResNet and 4, 8, 8, 8 for the small tower.
        """
        output = self.clip.forward_intermediates(
            image=images, image_indices=PYRAMID_STAGES, intermediates_only=True
        )
        pyramid: list[Tensor] = output["image_intermediates"]
        return pyramid

    def encode_words(
        self, token_ids: Int[Tensor, "expr tokens"]
    ) -> tuple[Float[Tensor, "expr tokens dim"], Float[Tensor, "expr embed"]]:
        """Return the features of every token and of the sentence.

        Returns:
            Word features after the last layer norm, not projected; sentence features projected
            into the joint embedding, taken at the end token (the largest id, as CLIP does: a
            sentence whose end token was cut away is read at another word), not normalised.
        """
        clip, length = self.clip, token_ids.shape[1]
        words = clip.token_embedding(token_ids) + clip.positional_embedding[:length]
        words = clip.transformer(words, attn_mask=clip.attn_mask[:length, :length])
        words = clip.ln_final(words)
        rows = torch.arange(len(token_ids), device=token_ids.device)
        return words, words[rows, token_ids.argmax(dim=-1)] @ clip.text_projection

    def embed_images(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> Float[Tensor, "images embed"]:
        """Return joint embeddings, not normalised; images must have the native size."""
        embedding: Tensor = self.clip.encode_image(images)
        return embedding

    def embed_texts(self, token_ids: Int[Tensor, "expr tokens"]) -> Float[Tensor, "expr embed"]:
        """Return joint embeddings of sentences, not normalised.

        The text tower is causal, so columns behind the last end token are left out: same numbers,
        less work. A compiled network keeps them, because its shapes may not depend on ids.
        """
        if not torch.compiler.is_compiling():
            token_ids = token_ids[:, : int(token_ids.argmax(dim=-1).max()) + 1]
        return self.encode_words(token_ids)[1]

    def _load(self, source: str) -> None:
        path = Path(source)
        if (path / "config.json").is_file():
            loaded = ClipEncoder.from_pretrained(path)
            load_state(self, loaded.state_dict(), source=source)
            self.assets.update(loaded.assets)
        else:
            load_state(self.clip, _open_clip_weights(self.config), source=source)

    def _probe_channels(self) -> tuple[int, ...]:
        if not isinstance(self.clip.visual, open_clip.modified_resnet.ModifiedResNet):
            info = getattr(getattr(self.clip.visual, "trunk", None), "feature_info", None)
            return tuple(entry["num_chs"] for entry in info)[1:] if info else ()
        stages = [getattr(self.clip.visual, f"layer{number}") for number in PYRAMID_STAGES]
        return tuple(stage[-1].conv3.out_channels for stage in stages)


def _build_clip(config: ClipConfig) -> Any:  # noqa: ANN401 - open_clip is untyped
    description = open_clip.get_model_config(config.architecture)
    if description is None:
        near = [
            name for name in open_clip.list_models() if name.startswith(("RN", "ViT-B", "tris"))
        ]
        raise InputError(
            f"open_clip knows no model {config.architecture!r}; among others it knows {near}."
        )
    if config.vocabulary_size:
        description["text_cfg"]["vocab_size"] = config.vocabulary_size
    description.pop("custom_text", None)
    return open_clip.CLIP(**description)


def _open_clip_weights(config: ClipConfig) -> dict[str, Tensor]:
    tags = open_clip.list_pretrained_tags_by_model(config.architecture)
    if config.pretrained not in tags and not Path(config.pretrained).is_file():
        raise InputError(
            f"{config.pretrained!r} is no file, no model directory, and no weights that open_clip "
            f"has for {config.architecture} ({', '.join(tags) or 'none'})."
        )
    if config.pretrained not in tags:
        return read_weights(Path(config.pretrained))
    try:
        clip = open_clip.create_model(config.architecture, pretrained=config.pretrained)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"The weights {config.pretrained!r} of {config.architecture} could not be fetched "
            f"({first_line(error)}); download them once and name the file in `pretrained`."
        ) from error
    state: dict[str, Tensor] = clip.state_dict()
    return state
