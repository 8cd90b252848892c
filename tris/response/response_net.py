"""The stage-1 network: one response map per image and sentence (TRIS, section 3.1)."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tris.batch import Batch, InputSpec, PairResponses, ResponseMaps
from tris.distributed import gather_rows
from tris.encoders.clip import ClipConfig, ClipEncoder
from tris.model_directory import ParameterGroup, PretrainedModel
from tris.response.bilateral_prompt import BilateralPrompt, PromptAttention


@dataclass(frozen=True)
class ResponseNetConfig:
    """The stage-1 network; defaults are the released ones unless said otherwise.

    Attributes:
        encoder: The trained CLIP.
        input_spec: 320 x 320 pixels, ImageNet statistics, 20 tokens (section 4.1).
        dim: Hidden dimension C_d (section 4.1).
        prompt: Which residuals of the bilateral prompt are used (Table 3).
        prompt_attention: See `BilateralPrompt`.
        visual_prompt_scale: alpha of equation 1.
        text_prompt_scale: beta of equation 1.
        initial_temperature: 1 / tau at the start; responses are multiplied by it.
        train_temperature: The paper's "learnable temperature"; the released code leaves it out of
            the optimiser (False).
        evaluation_texts: ``alone`` = each sentence is answered as if it were the only one;
            ``batch`` = the prompt sees all sentences of the evaluation batch, as the released code
            does, so that the answer depends on what else is in it.
    """

    encoder: ClipConfig = field(default_factory=ClipConfig)
    input_spec: InputSpec = field(default_factory=InputSpec)
    dim: int = 1024
    prompt: Literal["both", "text_to_visual", "visual_to_text", "none"] = "both"
    prompt_attention: PromptAttention = "texts"
    visual_prompt_scale: float = 0.1
    text_prompt_scale: float = 0.1
    initial_temperature: float = 1 / 0.07
    train_temperature: bool = True
    evaluation_texts: Literal["alone", "batch"] = "alone"

    def build(self, *, pretrained: bool = True) -> "ResponseNet":
        """Make the network; ``pretrained=False`` leaves CLIP's weights random."""
        return ResponseNet(self, pretrained=pretrained)


class ResponseNet(PretrainedModel):
    """CLIP features, projections, bilateral prompt, scaled responses.

    Source:
        TRIS (arXiv 2308.14575), equations 1-5.
    """

    config: ResponseNetConfig

    def __init__(self, config: ResponseNetConfig, *, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder: ClipEncoder = config.encoder.build(pretrained=pretrained)
        self.assets.update(self.encoder.assets)
        self.visual_projection = nn.Conv2d(self.encoder.visual_channels[-1], config.dim, 1)
        self.text_projection = nn.Linear(self.encoder.embed_dim, config.dim)
        self.prompt = BilateralPrompt(config.dim, attention=config.prompt_attention)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(config.initial_temperature)))
        self._freeze_unused()

    @property
    def input_spec(self) -> InputSpec:
        """What the data room must deliver."""
        return self.config.input_spec

    def forward(self, batch: Batch, *, all_pairs: bool = False) -> ResponseMaps:
        """Return the response of every expression on its own image.

        Args:
            batch: Images and expressions.
            all_pairs: Score every image against every expression of the global batch (training;
                processes exchange their text features with gradients). The prompt then sees all
                texts at once, as in the released training. Otherwise as ``evaluation_texts`` says.
        """
        visual = self.project_images(batch.images)
        texts = self.project_texts(batch.token_ids)
        if not all_pairs:
            if self.config.evaluation_texts == "alone":
                return ResponseMaps(self._respond_alone(visual, texts, batch.image_index))
            together = self._respond(visual, texts.unsqueeze(0), alone=False)
            rows = torch.arange(len(texts), device=texts.device)
            return ResponseMaps(together[batch.image_index, rows])
        all_texts, start = gather_rows(texts)
        logits = self._respond(visual, all_texts.unsqueeze(0), alone=False)
        rows = start + torch.arange(len(texts), device=texts.device)
        is_own = torch.zeros_like(logits[..., 0, 0], dtype=torch.bool)
        is_own[batch.image_index, rows] = True
        pairs = PairResponses(
            logits=logits,
            image_id=batch.image_id,
            text_image_id=gather_rows(batch.image_id[batch.image_index])[0],
            referent_id=gather_rows(batch.referent_id)[0],
            text_id=gather_rows(batch.text_id)[0],
            is_own=is_own,
        )
        return ResponseMaps(logits[batch.image_index, rows], pairs)

    def parameter_groups(self, encoder_scale: float) -> list[ParameterGroup]:
        """Return CLIP's weights at ``encoder_scale`` of the learning rate, and the rest."""
        parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                parts[name.startswith("encoder.")].append(parameter)
        return [
            ParameterGroup("encoder", parts[True], encoder_scale),
            ParameterGroup("heads", parts[False]),
        ]

    def project_images(
        self, images: Float[Tensor, "images 3 height width"]
    ) -> Float[Tensor, "images dim h w"]:
        """Return unit-length visual features V (equation 1)."""
        coarsest = self.encoder.encode_pyramid(images)[-1]
        return functional.normalize(self.visual_projection(coarsest), dim=1)

    def project_texts(self, token_ids: Int[Tensor, "expr tokens"]) -> Float[Tensor, "expr dim"]:
        """Return unit-length text features L (equation 1)."""
        sentences = self.encoder.embed_texts(token_ids)
        return functional.normalize(self.text_projection(sentences), dim=-1)

    def _respond_alone(
        self,
        visual: Float[Tensor, "images dim h w"],
        texts: Float[Tensor, "expr dim"],
        image_index: Int[Tensor, "expr"],
    ) -> Float[Tensor, "expr h w"]:
        """Lay the texts of each image side by side, so that no image is handled twice."""
        column = _rank_within(image_index)
        table = texts.new_zeros((len(visual), int(column.max()) + 1, texts.shape[-1]))
        table[image_index, column] = texts
        return self._respond(visual, table, alone=True)[image_index, column]

    def _respond(
        self,
        visual: Float[Tensor, "images dim h w"],
        texts: Float[Tensor, "_ texts dim"],
        *,
        alone: bool,
    ) -> Float[Tensor, "images texts h w"]:
        """Score texts (one set per image, or one set for all) on every image (equation 2)."""
        config, enriched, words = self.config, visual.unsqueeze(1), texts
        if config.prompt in ("both", "text_to_visual"):
            visual_prompt = self.prompt.prompt_pixels(visual, texts, alone=alone)
            enriched = enriched + config.visual_prompt_scale * visual_prompt
        if config.prompt in ("both", "visual_to_text"):
            words = texts + config.text_prompt_scale * self.prompt.prompt_texts(visual, texts)
        if enriched.shape[1] == 1:
            response = words @ enriched[:, 0].flatten(2)
        else:
            response = (words.unsqueeze(-2) @ enriched.flatten(3)).squeeze(-2)
        scaled: Tensor = (self.logit_scale.exp() * response).unflatten(-1, visual.shape[2:])
        return scaled

    def _freeze_unused(self) -> None:
        clip = self.encoder.clip
        pooling = [p for name, p in clip.visual.named_parameters() if _is_pooling(name)]
        for parameter in [clip.logit_scale, *pooling]:
            parameter.requires_grad_(False)
        if self.config.prompt in ("none", "visual_to_text"):
            _freeze(self.prompt.visual_query, self.prompt.text_key, self.prompt.text_value)
            _freeze(self.prompt.visual_output)
        if self.config.prompt in ("none", "text_to_visual"):
            _freeze(self.prompt.text_query, self.prompt.visual_key, self.prompt.visual_value)
            _freeze(self.prompt.text_output)
        self.logit_scale.requires_grad_(self.config.train_temperature)


def _is_pooling(name: str) -> bool:
    return name.startswith(("attnpool.", "head.", "trunk.pooling."))


def _freeze(*modules: nn.Module) -> None:
    for module in modules:
        module.requires_grad_(False)


def _rank_within(groups: Int[Tensor, "rows"]) -> Int[Tensor, "rows"]:
    """Return how many earlier rows have the same value.

    >>> _rank_within(torch.tensor([4, 7, 4, 4, 7])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = groups.argsort(stable=True)
    ordered = groups[order]
    position = torch.arange(len(groups), device=groups.device)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    first = torch.where(is_first, position, 0).cummax(dim=0).values
    rank = torch.empty_like(groups)
    rank[order] = position - first
    return rank
