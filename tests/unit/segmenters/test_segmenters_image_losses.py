import numpy as np
import pytest
import torch

from tris.batch import IGNORE_INDEX, Batch
from tris.data.samples import NO_SINGLE_REFERENT
from tris.errors import InputError
from tris.segmenters.image_losses import ImageLossConfig, image_losses, referent_cross_entropy
from tris.segmenters.losses import binary_cross_entropy, dice_loss

SIZE = (3, 4)


def make_batch(image_index, referent_id, targets) -> Batch:
    num, images = len(image_index), max(image_index) + 1
    rows = torch.arange(num)
    return Batch(
        images=torch.zeros(images, 3, *SIZE),
        image_id=torch.arange(images),
        original_size=torch.tensor([SIZE] * images),
        content_size=torch.tensor([SIZE] * images),
        token_ids=torch.ones(num, 4, dtype=torch.long),
        token_mask=torch.ones(num, 4, dtype=torch.bool),
        image_index=torch.tensor(image_index),
        referent_id=torch.tensor(referent_id),
        expression_id=rows,
        text_id=rows,
        is_no_target=torch.zeros(num, dtype=torch.bool),
        group_index=torch.zeros(num, dtype=torch.long),
        targets=targets,
    )


def mask(*pixels) -> torch.Tensor:
    target = torch.zeros(SIZE, dtype=torch.uint8)
    for y, x in pixels:
        target[y, x] = 1
    return target


def random_logits(num) -> torch.Tensor:
    return torch.randn(num, *SIZE, generator=torch.Generator().manual_seed(0)) * 3


A, B, NOTHING_KNOWN = mask((0, 0), (0, 1)), mask((2, 3)), torch.full(SIZE, IGNORE_INDEX).byte()


def by_definition(logits, image_index, referent_id, targets) -> float:
    """Ten lines of NumPy: expression by expression, pixel by pixel."""
    logits, losses = logits.numpy().astype(np.float64), []
    for e in range(len(logits)):
        group = [i for i in range(len(logits)) if image_index[i] == image_index[e]]
        others = sorted({referent_id[i] for i in group} - {referent_id[e]})
        pixels = []
        for y, x in np.ndindex(*SIZE):
            means = [
                np.mean([logits[i, y, x] for i in group if referent_id[i] == r]) for r in others
            ]
            scores = [0.0, logits[e, y, x], *means]
            owner = 0
            for k, r in enumerate([referent_id[e], *others]):
                row = next(i for i in group if referent_id[i] == r)
                owner = k + 1 if targets[row, y, x] == 1 else owner
            pixels.append(np.log(np.exp(scores).sum()) - scores[owner])
        losses.append(np.mean(pixels))
    return float(np.mean(losses))


def test_equals_the_definition():
    images, referents = [0, 0, 0, 1, 1, 0], [7, 7, 9, 3, 4, 9]
    targets = torch.stack([A, A, B, A, B, B])
    logits = random_logits(6)
    loss = referent_cross_entropy(logits, make_batch(images, referents, targets))
    expected = by_definition(logits, images, referents, targets.numpy())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_one_referent_alone_is_its_binary_cross_entropy():
    targets, logits = torch.stack([A, A]), random_logits(2)
    loss = referent_cross_entropy(logits, make_batch([0, 0], [7, 7], targets))
    torch.testing.assert_close(loss, binary_cross_entropy(logits, targets))


def test_equal_logits_of_two_referents_cost_ln_three():
    batch = make_batch([0, 0], [7, 9], torch.stack([A, B]))
    assert referent_cross_entropy(torch.zeros(2, *SIZE), batch).item() == pytest.approx(np.log(3))


def test_referents_of_other_images_are_no_rivals():
    targets, logits = torch.stack([A, B]), random_logits(2)
    loss = referent_cross_entropy(logits, make_batch([0, 1], [7, 9], targets))
    torch.testing.assert_close(loss, binary_cross_entropy(logits, targets))


def test_order_of_the_expressions_does_not_matter():
    images, referents = [0, 1, 0, 0], [7, 1, 9, 7]
    targets, logits, order = torch.stack([A, A, B, A]), random_logits(4), [2, 0, 3, 1]
    one = referent_cross_entropy(logits, make_batch(images, referents, targets))
    batch = make_batch([images[i] for i in order], [referents[i] for i in order], targets[order])
    torch.testing.assert_close(referent_cross_entropy(logits[order], batch), one)


def test_pixels_that_a_referent_does_not_know_or_two_claim_have_no_gradient():
    unsure, twice = A.clone(), B.clone()
    unsure[1, 1] = IGNORE_INDEX
    twice[0, 0] = 1
    logits = random_logits(2).requires_grad_(True)
    referent_cross_entropy(
        logits, make_batch([0, 0], [7, 9], torch.stack([unsure, twice]))
    ).backward()
    left_out = torch.zeros(SIZE, dtype=torch.bool)
    left_out[1, 1] = left_out[0, 0] = True
    assert (logits.grad[:, left_out] == 0).all()
    assert (logits.grad[:, ~left_out] != 0).all()


def test_a_referent_without_a_label_and_a_sample_of_several_stay_outside():
    logits = random_logits(4).requires_grad_(True)
    targets = torch.stack([A, B, NOTHING_KNOWN, A | B])
    batch = make_batch([0] * 4, [7, 9, 5, NO_SINGLE_REFERENT], targets)
    loss = referent_cross_entropy(logits, batch)
    loss.backward()
    assert (logits.grad[2:] == 0).all()
    pair = referent_cross_entropy(logits[:2], make_batch([0, 0], [7, 9], targets[:2]))
    torch.testing.assert_close(loss, pair / 2)  # the others count as zero


def test_a_batch_without_any_label_costs_nothing_and_can_be_trained_on():
    logits = random_logits(2).requires_grad_(True)
    loss = referent_cross_entropy(
        logits, make_batch([0, 0], [7, 9], torch.stack([NOTHING_KNOWN] * 2))
    )
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_extreme_logits_are_finite():
    logits = torch.tensor([1e4, -1e4])[:, None, None].expand(2, *SIZE).clone().requires_grad_(True)
    loss = referent_cross_entropy(logits, make_batch([0, 0], [7, 9], torch.stack([A, B])))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_half_precision_is_summed_in_single_precision():
    batch = make_batch([0, 0], [7, 9], torch.stack([A, B]))
    assert referent_cross_entropy(random_logits(2).bfloat16(), batch).dtype == torch.float32


class TestTerms:
    def test_weights_scale_them_and_zero_leaves_them_out(self):
        batch, logits = make_batch([0, 0], [7, 9], torch.stack([A, B])), random_logits(2)
        config = ImageLossConfig(referent_weight=2.0, dice_weight=0.5)
        terms = image_losses(logits, batch, config)
        torch.testing.assert_close(
            terms["referent_loss"], 2 * referent_cross_entropy(logits, batch)
        )
        torch.testing.assert_close(terms["image_dice_loss"], 0.5 * dice_loss(logits, batch.targets))
        assert image_losses(logits, batch, ImageLossConfig()) == {}

    def test_without_targets_they_are_refused(self):
        batch = make_batch([0, 0], [7, 9], None)
        for name in ("referent_weight", "dice_weight"):
            with pytest.raises(InputError, match="targets"):
                image_losses(random_logits(2), batch, ImageLossConfig(**{name: 1.0}))

    @pytest.mark.parametrize("name", ["referent_weight", "dice_weight"])
    @pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
    def test_a_weight_that_is_none_is_refused(self, name, weight):
        with pytest.raises(InputError, match=f"{name} is above 0 or None"):
            ImageLossConfig(**{name: weight})
