"""SAM's image encoder through transformers: features of a shallow, a middle and the last layer."""

import dataclasses
from dataclasses import dataclass

import transformers
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tris.encoders.weights import fetch_description, fetch_weights
from tris.errors import InputError
from tris.model_directory import load_state

_RANDOM_DEVIATION = 0.02
"""Of random weights; transformers' own 1e-10 would give features of zero."""


@dataclass(frozen=True)
class SamArchitecture:
    """Sizes of the encoder; the defaults are ViT-H.

    Attributes:
        dim: Width of the transformer.
        num_layers: Transformer layers.
        num_heads: Attention heads.
        mlp_dim: Inner width of the perceptrons.
        neck_channels: Channels of the image embedding, after the neck.
        image_size: Side of the images it was trained on, pixels.
        patch_size: Side of a patch, pixels.
        window_size: Side of the attention windows, patches.
        global_layers: Layers that attend to the whole image, not within windows.
    """

    dim: int = 1280
    num_layers: int = 32
    num_heads: int = 16
    mlp_dim: int = 5120
    neck_channels: int = 256
    image_size: int = 1024
    patch_size: int = 16
    window_size: int = 14
    global_layers: tuple[int, ...] = (7, 15, 23, 31)


SAM_BASE = SamArchitecture(
    dim=768, num_layers=12, num_heads=12, mlp_dim=3072, global_layers=(2, 5, 8, 11)
)


@dataclass(frozen=True)
class SamEncoderConfig:
    """Which SAM, with which weights.

    Attributes:
        pretrained: Name on the Hugging Face hub (``facebook/sam-vit-huge``, ``-large``, ``-base``)
            or folder of a transformers SAM, or "" for random weights.
        architecture: Sizes; those of the pretrained weights replace them.
        shallow_layer: Whose output is the shallow map; None = the first global layer.
        middle_layer: Whose output is the middle map; None = the second global layer.
    """

    pretrained: str = "facebook/sam-vit-huge"
    architecture: SamArchitecture = SamArchitecture()
    shallow_layer: int | None = None
    middle_layer: int | None = None

    def build(self, *, pretrained: bool = True) -> "SamEncoder":
        """Make the encoder; ``pretrained=False`` leaves the weights random."""
        return SamEncoder(self, load=pretrained)


class SamEncoder(nn.Module):
    """The image encoder of SAM for images of any size.

    Images are padded with zeros at the right and bottom to whole patches; absolute positions are
    resized (bicubic) to the map, relative ones by transformers.

    Attributes:
        config: With the architecture of the weights.
        channels: Of the shallow, middle and deep map.
        multiple: Sides of images are best multiples of this, pixels.

    Source:
        Segment Anything (arXiv 2304.02643), appendix A; ViTDet (arXiv 2203.16527).
    """

    def __init__(self, config: SamEncoderConfig, *, load: bool = True) -> None:
        super().__init__()
        if load and config.pretrained:
            found = _read_architecture(config.pretrained)
            config = dataclasses.replace(config, architecture=found)
        self.config = config
        self.sam = transformers.SamVisionModel(_describe(config.architecture))
        if load and config.pretrained:
            state = fetch_weights(transformers.SamVisionModel, config.pretrained, title="SAM")
            load_state(self.sam, state, source=config.pretrained)
        architecture = config.architecture
        self.channels = (architecture.dim, architecture.dim, architecture.neck_channels)
        self.multiple = architecture.patch_size
        self.layer_numbers = _layer_numbers(config)

    def forward(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> list[Float[Tensor, "images _ h w"]]:
        """Return the shallow and middle map, and the image embedding, one cell per patch.

        h and w are height and width divided by the patch size, rounded up.
        """
        encoder = self.sam.vision_encoder
        bottom, right = (-side % self.multiple for side in images.shape[-2:])
        patches = encoder.patch_embed.projection(functional.pad(images, (0, right, 0, bottom)))
        hidden = (patches + self._positions(patches)).permute(0, 2, 3, 1)
        maps = {}
        for number, layer in enumerate(encoder.layers):
            hidden = layer(hidden)
            if number in self.layer_numbers:
                maps[number] = hidden.permute(0, 3, 1, 2)
        return [*(maps[number] for number in self.layer_numbers), encoder.neck(hidden)]

    def _positions(self, patches: Float[Tensor, "images channels h w"]) -> Tensor:
        positions: Tensor = self.sam.vision_encoder.pos_embed.permute(0, 3, 1, 2)
        if positions.shape[-2:] == patches.shape[-2:]:
            return positions
        return functional.interpolate(
            positions, patches.shape[-2:], mode="bicubic", align_corners=False
        )


def _layer_numbers(config: SamEncoderConfig) -> tuple[int, int]:
    layers, count = config.architecture.global_layers, config.architecture.num_layers
    if len(layers) < 2 and None in (config.shallow_layer, config.middle_layer):
        raise InputError(
            f"This SAM has {len(layers)} global layers, so shallow and middle cannot be taken from "
            "them: name `shallow_layer` and `middle_layer`."
        )
    shallow = layers[0] if config.shallow_layer is None else config.shallow_layer
    middle = layers[1] if config.middle_layer is None else config.middle_layer
    if not 0 <= shallow < middle < count:
        raise InputError(
            f"Layers {shallow} and {middle} cannot be shallow and middle of {count} layers: choose "
            "two in rising order."
        )
    return shallow, middle


def _describe(architecture: SamArchitecture) -> "transformers.SamVisionConfig":
    return transformers.SamVisionConfig(
        hidden_size=architecture.dim,
        output_channels=architecture.neck_channels,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        image_size=architecture.image_size,
        patch_size=architecture.patch_size,
        window_size=architecture.window_size,
        global_attn_indexes=list(architecture.global_layers),
        mlp_dim=architecture.mlp_dim,
        initializer_range=_RANDOM_DEVIATION,
        attn_implementation="sdpa",
    )


def _read_architecture(source: str) -> SamArchitecture:
    found = fetch_description(transformers.SamVisionConfig, source, title="SAM")
    return SamArchitecture(
        dim=found.hidden_size,
        num_layers=found.num_hidden_layers,
        num_heads=found.num_attention_heads,
        mlp_dim=found.mlp_dim,
        neck_channels=found.output_channels,
        image_size=found.image_size,
        patch_size=found.patch_size,
        window_size=found.window_size,
        global_layers=tuple(found.global_attn_indexes),
    )
