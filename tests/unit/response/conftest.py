import pytest
import torch

from tris.batch import Batch, InputSpec, TokenizerConfig
from tris.encoders.clip import ClipConfig
from tris.response.response_net import ResponseNetConfig

SPEC = InputSpec(image_size=(64, 64), tokenizer=TokenizerConfig(context_length=8))
TINY = ResponseNetConfig(
    encoder=ClipConfig(architecture="tris-small", pretrained="", input_spec=SPEC),
    input_spec=SPEC,
    dim=16,
)


def make_tiny_batch(image_index: list[int], *, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images, expressions = max(image_index) + 1, len(image_index)
    token_ids = torch.randint(3, 60, (expressions, 8), generator=generator)
    token_ids[:, 5] = 63
    token_ids[:, 6:] = 0
    index = torch.tensor(image_index)
    return Batch(
        images=torch.randn(images, 3, 64, 64, generator=generator),
        image_id=torch.arange(images) + 100,
        original_size=torch.full((images, 2), 64),
        content_size=torch.full((images, 2), 64),
        token_ids=token_ids,
        token_mask=token_ids > 0,
        image_index=index,
        referent_id=torch.arange(expressions),
        expression_id=torch.arange(expressions),
        text_id=torch.arange(expressions),
        is_no_target=torch.zeros(expressions, dtype=torch.bool),
        group_index=torch.zeros(expressions, dtype=torch.long),
    )


@pytest.fixture
def tiny_config() -> ResponseNetConfig:
    return TINY


@pytest.fixture
def tiny_batch():
    return make_tiny_batch
