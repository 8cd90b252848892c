"""What every segmenter must do; a new one inherits all of it by adding its config file."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tris.batch import IGNORE_INDEX, Batch
from tris.data.samples import NO_SINGLE_REFERENT
from tris.segmenters.contract import Segmenter
from tris.segmenters.image_losses import ImageLossConfig, image_losses

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG_FOLDER = REPOSITORY / "configs" / "segmenter"
CONFIG_NAMES = sorted(path.stem for path in CONFIG_FOLDER.glob("[!_]*.py"))
SMALLEST_VOCABULARY = 60
ODD_SIZES = [(64, 64), (65, 79), (96, 61)]


class Scene(NamedTuple):
    """How many images, and which of them each expression is about."""

    num_images: int
    image_index: list[int]


PAIR = Scene(2, [0, 1])
TWO_IMAGES_FIVE_SENTENCES = Scene(2, [1, 0, 1, 1, 0])


def make_batch(segmenter: Segmenter, scene: Scene = PAIR, *, size=(64, 64), seed=0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    num_expressions, num_images = len(scene.image_index), scene.num_images
    num_tokens = segmenter.input_spec.tokenizer.context_length
    expressions = torch.arange(num_expressions)
    lengths = 3 + torch.randint(0, num_tokens - 2, (num_expressions, 1), generator=generator)
    token_mask = torch.arange(num_tokens) < lengths
    token_ids = torch.randint(
        1, SMALLEST_VOCABULARY, (num_expressions, num_tokens), generator=generator
    )
    return Batch(
        images=torch.randn(num_images, 3, *size, generator=generator),
        image_id=torch.arange(num_images),
        original_size=torch.tensor([size] * num_images),
        content_size=torch.tensor([size] * num_images),
        token_ids=token_ids * token_mask,
        token_mask=token_mask,
        image_index=torch.tensor(scene.image_index),
        referent_id=expressions,
        expression_id=expressions,
        text_id=expressions,
        is_no_target=torch.zeros(num_expressions, dtype=torch.bool),
        group_index=torch.zeros(num_expressions, dtype=torch.long),
        targets=(torch.rand(num_expressions, *size, generator=generator) > 0.7).to(torch.uint8),
    )


def select_expressions(batch: Batch, rows: list[int], *, images: list[int]) -> Batch:
    """Return the batch of some expressions and the images they are about."""
    image_rows = torch.tensor(images)
    moved = {old: new for new, old in enumerate(images)}
    per_image = ("images", "image_id", "original_size", "content_size")
    per_expression = set(batch._fields) - {*per_image, "image_index"}
    values = {name: getattr(batch, name)[image_rows] for name in per_image}
    values |= {
        name: getattr(batch, name)[rows]
        for name in per_expression
        if getattr(batch, name) is not None
    }
    image_index = [moved[int(index)] for index in batch.image_index[rows]]
    return Batch(**values, image_index=torch.tensor(image_index))


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


def import_config(name: str):
    return importlib.import_module(f"configs.segmenter.{name}")


def keep_distinct(names: list[str]) -> list[str]:
    """Leave out files whose debug network another one has, too: its tests would say the same."""
    kept, configs = [], []
    for name in names:
        config = import_config(name).get_debug_config()
        if config not in configs:
            kept.append(name)
            configs.append(config)
    return kept


@pytest.fixture(params=CONFIG_NAMES)
def config_module(request):
    return import_config(request.param)


@pytest.fixture(params=keep_distinct(CONFIG_NAMES))
def debug_name(request) -> str:
    return request.param


@pytest.fixture
def segmenter(debug_name) -> Segmenter:
    torch.manual_seed(0)
    return import_config(debug_name).get_debug_config().build().eval()


class TestConfigFile:
    def test_docstring_names_paper_command_cost_and_expected_numbers(self, config_module):
        for word in ("Paper:", "Command:", "Cost:", "Expected"):
            assert word in config_module.__doc__

    def test_debug_network_is_of_the_same_class(self, config_module):
        assert type(config_module.get_debug_config()) is type(config_module.get_config().network)


class TestForward:
    @pytest.mark.parametrize("size", ODD_SIZES)
    def test_logits_have_the_size_of_the_input(self, segmenter, size):
        output = segmenter(make_batch(segmenter, TWO_IMAGES_FIVE_SENTENCES, size=size))
        assert output.mask_logits.shape == (5, *size)
        assert output.mask_logits.isfinite().all()
        assert output.no_target_logit is None or output.no_target_logit.shape == (5,)

    @pytest.mark.parametrize("size", ODD_SIZES)
    def test_training_returns_the_same_shapes(self, segmenter, size):
        output = segmenter.train()(make_batch(segmenter, TWO_IMAGES_FIVE_SENTENCES, size=size))
        assert output.mask_logits.shape == (5, *size)

    def test_is_deterministic_in_evaluation(self, segmenter):
        batch = make_batch(segmenter)
        assert torch.equal(segmenter(batch).mask_logits, segmenter(batch).mask_logits)

    def test_reads_the_sentence_and_the_image(self, segmenter):
        batch = make_batch(segmenter)
        logits = segmenter(batch).mask_logits
        other_text = batch._replace(
            token_ids=batch.token_ids.flip(0), token_mask=batch.token_mask.flip(0)
        )
        assert not torch.equal(logits, segmenter(other_text).mask_logits)
        assert not torch.equal(
            logits, segmenter(batch._replace(images=batch.images.flip(0))).mask_logits
        )

    def test_batch_of_two_equals_two_of_one(self, segmenter):
        batch = make_batch(segmenter)
        singles = [
            segmenter(select_expressions(batch, [row], images=[row])).mask_logits for row in (0, 1)
        ]
        torch.testing.assert_close(
            segmenter(batch).mask_logits, torch.cat(singles), atol=1e-4, rtol=1e-4
        )

    def test_image_with_several_sentences_equals_them_one_by_one(self, segmenter):
        batch = make_batch(segmenter, TWO_IMAGES_FIVE_SENTENCES)
        singles = [
            segmenter(select_expressions(batch, [row], images=[image])).mask_logits
            for row, image in enumerate(TWO_IMAGES_FIVE_SENTENCES.image_index)
        ]
        torch.testing.assert_close(
            segmenter(batch).mask_logits, torch.cat(singles), atol=1e-4, rtol=1e-4
        )

    def test_bf16_autocast_is_finite_and_near(self, segmenter):
        batch = make_batch(segmenter)
        exact = segmenter(batch).mask_logits
        with torch.autocast("cpu", torch.bfloat16):
            rounded = segmenter(batch).mask_logits
        assert rounded.isfinite().all()
        assert (rounded.float() - exact).abs().mean() <= 0.1 * exact.abs().mean() + 0.05

    @pytest.mark.slow
    def test_compiles_without_graph_breaks_to_the_same_logits(self, debug_name):
        # In a process of its own: the shape checks that tests switch on cannot be compiled.
        command = [sys.executable, __file__, debug_name]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True)


class TestLoss:
    def test_is_a_finite_scalar_per_name_in_training_and_in_evaluation(self, segmenter):
        batch = make_batch(segmenter)
        for mode in (True, False):
            losses = segmenter.train(mode).loss(segmenter(batch), batch)
            assert losses
            assert all(value.shape == () and value.isfinite() for value in losses.values())

    def test_terms_of_the_experiment_join_it_under_names_of_their_own(self, segmenter):
        segmenter.train()
        batch = make_batch(segmenter, TWO_IMAGES_FIVE_SENTENCES)
        referents = torch.tensor([1, 2, 3, 3, NO_SINGLE_REFERENT])
        batch = batch._replace(referent_id=referents)
        config = ImageLossConfig(referent_weight=1.0, dice_weight=1.0)
        output = segmenter(batch)
        added = image_losses(output.mask_logits, batch, config)
        assert len(added) == 2
        assert not added.keys() & segmenter.loss(output, batch).keys()
        total(added).backward()
        gradients = [p.grad for p in segmenter.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.abs().max() > 0 for gradient in gradients)

    def test_gradients_reach_every_trainable_weight(self, segmenter):
        segmenter.train()
        batch = make_batch(segmenter)
        total(segmenter.loss(segmenter(batch), batch)).backward()
        trainable = {name: p for name, p in segmenter.named_parameters() if p.requires_grad}
        unreached = [name for name, p in trainable.items() if p.grad is None]
        assert not unreached
        # A bias in front of a normalisation has no effect, so only weights must move.
        unmoved = [name for name, p in trainable.items() if p.ndim > 1 and not p.grad.any()]
        assert not unmoved

    def test_frozen_weights_and_their_statistics_stay(self, segmenter):
        segmenter.train()
        frozen = {name for name, p in segmenter.named_parameters() if not p.requires_grad}
        before = {name: value.clone() for name, value in segmenter.state_dict().items()}
        batch = make_batch(segmenter)
        optimizer = torch.optim.AdamW(
            [{"params": group.parameters} for group in segmenter.parameter_groups()], lr=1e-2
        )
        total(segmenter.loss(segmenter(batch), batch)).backward()
        optimizer.step()
        after = segmenter.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in frozen)

    def test_frozen_parts_stay_in_evaluation_with_their_statistics(self, segmenter):
        segmenter.train()
        parts = segmenter.frozen_parts()
        before = [{name: v.clone() for name, v in part.state_dict().items()} for part in parts]
        segmenter(make_batch(segmenter))
        assert not any(module.training for part in parts for module in part.modules())
        for part, state in zip(parts, before, strict=True):
            after = part.state_dict()
            assert all(torch.equal(after[name], value) for name, value in state.items())

    def test_ignored_pixels_change_nothing(self, segmenter):
        batch = make_batch(segmenter)
        ignored = torch.rand(batch.targets.shape, generator=torch.Generator().manual_seed(1)) < 0.3
        output = segmenter(batch)
        targets = batch.targets.masked_fill(ignored, IGNORE_INDEX)
        noise = torch.randn_like(output.mask_logits) * ignored
        disturbed = output._replace(mask_logits=output.mask_logits + noise)
        batch = batch._replace(targets=targets)
        expected = segmenter.loss(output, batch)
        for name, value in segmenter.loss(disturbed, batch).items():
            torch.testing.assert_close(value, expected[name])

    def test_known_pixels_change_something(self, segmenter):
        batch = make_batch(segmenter)
        output = segmenter(batch)
        flipped = batch._replace(targets=1 - batch.targets)
        assert total(segmenter.loss(output, batch)) != total(segmenter.loss(output, flipped))

    def test_batch_without_targets_is_refused(self, segmenter):
        batch = make_batch(segmenter)._replace(targets=None)
        with pytest.raises(ValueError, match="targets"):
            segmenter.loss(segmenter(batch), batch)

    def test_learns_one_batch(self, segmenter):
        segmenter.train()
        batch = make_batch(segmenter)
        optimizer = torch.optim.Adam([p for p in segmenter.parameters() if p.requires_grad], 3e-3)
        losses = []
        for _ in range(30):
            loss = total(segmenter.loss(segmenter(batch), batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.95 * losses[0]


class TestParameters:
    def test_every_trainable_weight_is_in_exactly_one_group(self, segmenter):
        grouped = [id(p) for group in segmenter.parameter_groups() for p in group.parameters]
        trainable = [id(p) for p in segmenter.parameters() if p.requires_grad]
        assert len(set(grouped)) == len(grouped)
        assert sorted(grouped) == sorted(trainable)

    def test_model_directory_gives_back_the_same_network(self, segmenter, tmp_path):
        segmenter.save_pretrained(tmp_path / "model")
        loaded = Segmenter.from_pretrained(tmp_path / "model")
        batch = make_batch(segmenter)
        assert type(loaded) is type(segmenter)
        assert loaded.config == segmenter.config
        assert loaded.input_spec == segmenter.input_spec
        assert torch.equal(loaded(batch).mask_logits, segmenter(batch).mask_logits)


def compare_compiled(config_name: str) -> None:
    torch.manual_seed(0)
    segmenter = import_config(config_name).get_debug_config().build().eval()
    batch = make_batch(segmenter)
    compiled = torch.compile(segmenter, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(batch).mask_logits, segmenter(batch).mask_logits, atol=1e-4, rtol=1e-4
    )


if __name__ == "__main__":
    compare_compiled(sys.argv[1])
