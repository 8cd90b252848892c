"""DMMI against the released one: layout, the attention block's numbers, every layer's arithmetic.

Of the attention block, maps and outputs are stored, the words that it read are not. Queries, values
of the image and what follows the maps do not depend on the words, so they are compared as numbers;
what the words' projections have to be is solved for, which has a solution only if the queries and
the value path are right. There are no stored numbers of the full network, so its forward is written
here a second time, from the published description with released names, under the fill rule.
"""

import argparse
import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tris.batch import Batch
from tris.cli.convert import CONVERTERS, main
from tris.encoders.bert import BertConfig
from tris.encoders.resnet import ResNetConfig
from tris.encoders.swin import SwinConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.errors import InputError
from tris.segmenters.dmmi import Dmmi, DmmiConfig, released
from tris.segmenters.dmmi.attention import BidirectionalAttention
from tris.segmenters.dmmi.losses import contrastive_loss, similarity_loss
from tris.segmenters.dmmi.released import BERT_PART, _fusion, _is_dead, _reshape, released_key

pytestmark = pytest.mark.golden

MANIFESTS = ["dmmi_swinb", "dmmi_swintiny", "dmmi_res101"]
TINY = DmmiConfig(
    encoder=VisionLanguageConfig(
        swin=SwinConfig("", 16, (1, 2, 1, 1), (1, 2, 2, 4), window_size=4),
        bert=BertConfig("", 60, dim=64, num_layers=3, num_heads=1, feedforward_dim=96,
                        max_tokens=24, num_trained_layers=2),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def fill_rule(reference):
    specification = importlib.util.spec_from_file_location("fill_rule", reference / "fill_rule.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stored(golden):
    return np.load(golden / "dmmi_modules_golden.npz")


@pytest.fixture(scope="module")
def attention(golden, fill_rule):
    shapes = json.loads((golden / "dmmi_mba_small_keys.json").read_text())
    attention = BidirectionalAttention(32, 768)
    names = {
        key: _fusion(f"attention.{key}").removeprefix("fusion.image_lang_att.")
        for key in attention.state_dict()
    }
    assert sorted(names.values()) == sorted(shapes)
    attention.load_state_dict(
        {
            key: _reshape(torch.from_numpy(fill_rule.value(f"mba.{name}", shapes[name])), own)
            for (key, own), name in zip(attention.state_dict().items(), names.values(), strict=True)
        }
    )
    return attention


@pytest.fixture(scope="module")
def features(stored, fill_rule):
    cells = fill_rule.image(90, (2, 49, 32))
    np.testing.assert_array_equal(cells, stored["x_seed90_B_HW_C"])
    return torch.from_numpy(cells).transpose(1, 2).unflatten(2, (7, 7))


class TestAttentionBlock:
    @torch.no_grad()
    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_some_words_explain_where_every_cell_looks(self, number, attention, stored, features):
        name = f"sim_refineimg{2 * number + 1}{2 * number + 1}"
        for row, length in enumerate((11, 20)):
            queries = attention.region_queries[number](features)[row].double() * attention.scale
            scores = np.log(stored[name][row, 0, :, :length].astype(np.float64))
            scores = torch.from_numpy(scores[:, 1:] - scores[:, :1])
            keys = torch.linalg.lstsq(queries, scores).solution
            torch.testing.assert_close(queries @ keys, scores, atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_some_words_explain_what_they_say_to_every_cell(self, attention, stored):
        maps = [torch.from_numpy(stored[f"sim_refineimg{k}{k}"][0, 0]) for k in (1, 3, 5)]
        shares = attention.region_weights.softmax(dim=0)
        mixed = sum(share * each for share, each in zip(shares, maps, strict=True))[:, :11]
        known = torch.cat([mixed, torch.ones(49, 1)], dim=1).double()
        output = torch.from_numpy(stored["out_v"][0]).double()
        values = torch.linalg.lstsq(known, output).solution
        torch.testing.assert_close(known @ values, output, atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_what_the_image_says_to_the_words(self, attention, stored, features):
        maps = [torch.from_numpy(stored[f"sim_refinelan{k}1"][:, 0]) for k in (1, 2, 3)]
        shares = attention.window_weights.softmax(dim=0)
        mixed = sum(share * each for share, each in zip(shares, maps, strict=True))
        values = F.instance_norm(attention.visual_value(features)).flatten(2).transpose(1, 2)
        output = attention.word_output(mixed @ values).transpose(1, 2)[:, :64]
        np.testing.assert_allclose(output.numpy(), stored["out_l_c64"], atol=1e-5)


def released_shape(key: str, value: torch.Tensor) -> tuple[int, ...]:
    if ".res_gate." in key or value.ndim < 2:
        return tuple(value.shape) if value.ndim < 2 else tuple(value.shape[:2])
    if "image_lang_att" in key or ".vis_project" in key or ".project_mm" in key:
        return (len(value), value[0].numel(), 1)
    return (*value.shape, 1) if ".W_l." in key or "align_lan" in key else tuple(value.shape)


def make_state(config, fill_rule) -> dict[str, torch.Tensor]:
    """The weights of a network under released names and shapes, dead copies included."""
    is_swin = config.encoder.vision == "swin"
    shapes = {}
    for key, value in config.build(pretrained=False).state_dict().items():
        name = released_key(key, is_swin=is_swin)
        if value.is_floating_point():
            shapes[name] = released_shape(name, value)
    for name in [key for key in shapes if ".attn.query." in key]:
        rows, *columns = shapes.pop(name)
        for other in ("key", "value"):
            del shapes[name.replace(".query.", f".{other}.")]
        shapes[name.replace(".query.", ".qkv.")] = (3 * rows, *columns)
    copies = [key for key in shapes if ".transformer_model.layers.0." in key]
    shapes |= {k.replace("transformer_model.layers.0", "decoder_layer"): shapes[k] for k in copies}
    if is_swin:
        shapes |= {f"backbone.layers.3.res_gate.{i}.weight": (128, 128) for i in (0, 2)}
    state = {name: torch.from_numpy(fill_rule.value(name, shape)) for name, shape in shapes.items()}
    if is_swin:
        state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    for name in [key for key in shapes if key.endswith("running_var")]:
        state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    return state


@pytest.fixture(scope="module")
def tiny_state(fill_rule):
    return make_state(TINY, fill_rule)


def write_release(path, state):
    parts = {"model": {}, BERT_PART: {}}
    for key, value in state.items():
        part = BERT_PART if key.startswith(f"{BERT_PART}.") else "model"
        parts[part][key.removeprefix(f"{BERT_PART}.")] = value
    content = {"optimizer": {}, "epoch": 39, "args": argparse.Namespace(swin_type="base")}
    torch.save({**parts, **content, "lr_scheduler": {}}, path)


def convert_release(state, folder) -> Dmmi:
    """Write a released file, convert it on the command line, read the model directory."""
    write_release(folder / "released.pth", state)
    out = folder / "model"
    main([str(folder / "released.pth"), "--from", "dmmi", "--out", str(out)])
    return Dmmi.from_pretrained(out)


@pytest.fixture(scope="module")
def network(tiny_state, tmp_path_factory) -> Dmmi:
    return convert_release(tiny_state, tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def batch(fill_rule) -> Batch:
    index = torch.arange(2)
    mask = torch.arange(20) < torch.tensor([[11], [20]])
    return Batch(
        images=torch.from_numpy(fill_rule.image(7, (2, 3, 96, 96))),
        image_id=index,
        original_size=torch.tensor([(96, 96)] * 2),
        content_size=torch.tensor([(96, 96)] * 2),
        token_ids=(torch.arange(40).view(2, 20) + 5) * mask,
        token_mask=mask,
        image_index=index,
        referent_id=index,
        expression_id=index,
        text_id=index,
        is_no_target=torch.zeros(2, dtype=torch.bool),
        group_index=torch.zeros(2, dtype=torch.long),
    )


class Published:
    """The forward of the description, on released names and layouts: (B, C, N) throughout."""

    def __init__(self, state):
        self.state = state

    def conv1(self, name, x):
        return F.conv1d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def attend_image(self, name, x, words, mask, kernel):
        query = F.instance_norm(self.conv1(f"{name}.f_query.0", x))
        side = int(x.shape[2] ** 0.5)
        regions = F.unfold(query.unflatten(2, (side, side)), kernel, padding=kernel // 2)
        query = F.instance_norm(self.conv1(f"{name}.f_query2.0", regions))
        key = self.conv1(f"{name}.f_key.0", words) * mask
        scores = torch.einsum("bdn,bdt->bnt", query, key) / x.shape[1] ** 0.5
        return (scores + (1e4 * mask - 1e4)).softmax(dim=-1)

    def attend_words(self, name, x, words, mask, length):
        query = self.conv1(f"{name}.f_query.0", words)
        padded = F.pad(query, (length // 2, (length - 1) // 2), mode="replicate")
        runs = F.unfold(padded[..., None], (length, 1))
        query = self.conv1(f"{name}.f_query2.0", runs) * mask
        key = F.instance_norm(self.conv1(f"{name}.f_key.0", x))
        scores = torch.einsum("bct,bcn->btn", query, key) / x.shape[1] ** 0.5
        return (scores + (1e4 * mask.transpose(1, 2) - 1e4)).softmax(dim=-1)

    def fuse(self, stage, x, words, mask):
        name = f"{stage}.fusion.image_lang_att"
        visual = self.state[f"{name}.vis_weight"].softmax(0)
        maps = [self.attend_image(f"{name}.refineimg{k}{k}", x, words, mask, k) for k in (1, 3, 5)]
        to_image = torch.einsum("k,kbnt->bnt", visual, torch.stack(maps))
        value = self.conv1(f"{name}.f_value.0", words) * mask
        said = torch.einsum("bnt,bdt->bdn", to_image, value)
        said = F.instance_norm(self.conv1(f"{name}.W.0", said))
        textual = self.state[f"{name}.lan_weight"].softmax(0)
        maps = [self.attend_words(f"{name}.refinelan{k}1", x, words, mask, k) for k in (1, 2, 3)]
        to_words = torch.einsum("k,kbtn->btn", textual, torch.stack(maps))
        value = F.instance_norm(self.conv1(f"{name}.f_value_v.0", x))
        told = self.conv1(f"{name}.W2.0", torch.einsum("btn,bcn->bct", to_words, value))
        product = F.gelu(self.conv1(f"{stage}.fusion.vis_project.0", x)) * said
        residual = F.gelu(self.conv1(f"{stage}.fusion.project_mm.0", product))
        first, second = (self.state[f"{stage}.res_gate.{i}.weight"] for i in (0, 2))
        cells = residual.transpose(1, 2)
        gate = torch.tanh(F.linear(F.linear(cells, first).relu(), second)).transpose(1, 2)
        words = words + F.gelu(self.conv1(f"{stage}.W_l.0", told))
        return x + gate * residual, residual, words

    def encode(self, network, images, words, mask):
        skips, features = [], network.encoder.vision.stem(images)
        for level in range(4):
            features = network.encoder.vision.stage(level, features)
            size = features.shape[2:]
            fused, residual, words = self.fuse(
                f"backbone.layers.{level}", features.flatten(2), words, mask
            )
            weight, bias = (self.state[f"backbone.norm{level}.{k}"] for k in ("weight", "bias"))
            cells = F.layer_norm(residual.transpose(1, 2), weight.shape, weight, bias)
            skips.append(cells.transpose(1, 2).unflatten(2, size))
            features = fused.unflatten(2, size)
        return skips, words

    def convolve(self, conv, norm, x, *, stride=1):
        state = self.state
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        kernel = state[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        return F.batch_norm(x, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"])

    def conv_block(self, conv, norm, x):
        return self.convolve(conv, norm, x).relu()

    def resnet_stage(self, name, x, *, stride):
        """Two basic blocks of a ResNet-18."""
        for block, by in (("0", stride), ("1", 1)):
            place = f"{name}.{block}"
            y = self.convolve(f"{place}.conv1", f"{place}.bn1", x, stride=by).relu()
            y = self.convolve(f"{place}.conv2", f"{place}.bn2", y)
            short = f"{place}.downsample"
            if f"{short}.0.weight" in self.state:
                x = self.convolve(f"{short}.0", f"{short}.1", x, stride=by)
            x = (x + y).relu()
        return x

    def encode_with_resnet(self, images, words, mask):
        """Every stage hands its gated sum to the next stage and to the decoder, unnormalised."""
        features = self.convolve("backbone.layer1.0", "backbone.layer1.1", images, stride=2).relu()
        features, skips = F.max_pool2d(features, 3, stride=2, padding=1), []
        for number in range(1, 5):
            name = "backbone.layer1.4" if number == 1 else f"backbone.layer{number}"
            features = self.resnet_stage(name, features, stride=1 if number == 1 else 2)
            size = features.shape[2:]
            fused, _, words = self.fuse(
                f"backbone.all_fusion{number}", features.flatten(2), words, mask
            )
            features = fused.unflatten(2, size)
            skips.append(features)
        return skips, words

    def level(self, number, x):
        name = "classifier."
        x = self.conv_block(f"{name}conv1_{number}", f"{name}bn1_{number}", x)
        return self.conv_block(f"{name}conv2_{number}", f"{name}bn2_{number}", x)

    def transformer(self, name, target, memory):
        """Post-norm decoder layer of 8 heads; both sides (B, C, N)."""
        name = f"classifier.{name}.transformer_model.layers.0"
        state, x, memory = self.state, target.transpose(1, 2), memory.transpose(1, 2)

        def heads(part, queries, keys):
            parts = zip(
                (queries, keys, keys),
                state[f"{name}.{part}.in_proj_weight"].chunk(3),
                state[f"{name}.{part}.in_proj_bias"].chunk(3),
                strict=True,
            )
            q, k, v = (F.linear(*each).unflatten(-1, (8, -1)).transpose(1, 2) for each in parts)
            weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
            out = (weights @ v).transpose(1, 2).flatten(2)
            return F.linear(
                out, state[f"{name}.{part}.out_proj.weight"], state[f"{name}.{part}.out_proj.bias"]
            )

        def norm(number, y):
            weight = state[f"{name}.norm{number}.weight"]
            return F.layer_norm(y, weight.shape, weight, state[f"{name}.norm{number}.bias"])

        def linear(number, y):
            return F.linear(
                y, state[f"{name}.linear{number}.weight"], state[f"{name}.linear{number}.bias"]
            )

        x = norm(1, x + heads("self_attn", x, x))
        x = norm(2, x + heads("multihead_attn", x, memory))
        return norm(3, x + linear(2, linear(1, x).relu())).transpose(1, 2)

    def ask(self, name, features, words):
        return self.transformer(name, features.flatten(2), words).unflatten(2, features.shape[2:])

    def summary(self, name, before, features):
        joined = torch.cat([before, features.mean(dim=(2, 3))], dim=1)
        weight, bias = (self.state[f"classifier.{name}.linear.{k}"] for k in ("weight", "bias"))
        return F.linear(joined, weight, bias)

    def decode(self, skips, words, erased):
        def join(x, skip):
            x = F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=True)
            return torch.cat([x, skip], dim=1)

        first, second, third, fourth = skips
        coarse = self.level(4, join(fourth, third))
        summary = coarse.mean(dim=(2, 3))
        middle = self.level(3, join(self.ask("transformer_fusion1", coarse, words), second))
        memory = self.conv_block("classifier.lan_func.conv1", "classifier.lan_func.bn1", middle)
        recovered = self.transformer("lan_func", erased, memory.flatten(2))
        summary = self.summary("crossfuse1", summary, middle)
        fine = self.level(2, join(self.ask("transformer_fusion2", middle, words), first))
        summary = self.summary("crossfuse2", summary, fine)
        name = "classifier.conv1_1"
        return F.conv2d(fine, self.state[f"{name}.weight"], self.state[f"{name}.bias"]), (
            summary, recovered,
        )  # fmt: skip


@pytest.fixture(scope="module")
def published(network, tiny_state, batch):
    """Class logits, summary of vision, recovered words, refined words."""
    with torch.no_grad():
        written, mask = Published(tiny_state), batch.token_mask.float()[:, None]
        words = network.encoder.words(batch.token_ids, batch.token_mask).transpose(1, 2)
        skips, refined = written.encode(network, batch.images, words, mask)
        logits, language = written.decode(skips, refined, words)
        logits = F.interpolate(logits, batch.images.shape[2:], mode="bilinear", align_corners=True)
    return logits, *language, refined


@torch.no_grad()
def test_logits_equal_the_published_description(network, batch, published):
    output = network(batch)
    logits = output.extras["class_logits"]
    assert logits.std() > 0.01
    torch.testing.assert_close(logits, published[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_logits_of_the_resnet_variant_equal_the_published_description(
    batch, fill_rule, tmp_path, monkeypatch
):
    # Released are 101 layers; what stands between the blocks does not depend on their number.
    monkeypatch.setitem(released._RESNETS, 2, "resnet18")
    encoder = dataclasses.replace(
        TINY.encoder, vision="resnet", resnet=ResNetConfig("resnet18", "")
    )
    state = make_state(dataclasses.replace(TINY, encoder=encoder, skips="fused"), fill_rule)
    network = convert_release(state, tmp_path)
    published, mask = Published(state), batch.token_mask.float()[:, None]
    words = network.encoder.words(batch.token_ids, batch.token_mask).transpose(1, 2)
    skips, refined = published.encode_with_resnet(batch.images, words, mask)
    logits, _ = published.decode(skips, refined, words)
    logits = F.interpolate(logits, batch.images.shape[2:], mode="bilinear", align_corners=True)
    found = network(batch).extras["class_logits"]
    assert found.std() > 0.01
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_language_losses_equal_the_published_description(network, tiny_state, batch, published):
    _, summary, recovered, refined = published
    network.training = True  # itself alone: batch norms and dropout stay in evaluation
    output = network(batch)
    network.eval()
    flag = torch.tensor([1.0, 0.0])
    aligned = Published(tiny_state).conv1("contrastive.align_lan.0", refined).mean(dim=2)
    logits = F.normalize(summary) @ F.normalize(aligned).T / 0.05
    both = [F.cross_entropy(each, torch.arange(2), reduction="none") for each in (logits, logits.T)]
    contrastive = sum((each * flag).mean() for each in both)
    mask = batch.token_mask.float()[:, None]
    cosines = F.cosine_similarity(refined * mask, recovered * mask, dim=1, eps=1e-6)
    similar = 1 - ((cosines * flag[:, None]).sum(dim=1) / mask.sum(dim=(1, 2))).mean()
    extras, has_target = output.extras, flag.bool()
    found = contrastive_loss(
        extras["visual_summary"], extras["word_summary"], has_target, temperature=0.05
    )
    torch.testing.assert_close(found, contrastive, atol=1e-4, rtol=1e-4)
    found = similarity_loss(
        extras["recovered_words"], extras["refined_words"], batch.token_mask, has_target
    )
    torch.testing.assert_close(found, similar, atol=1e-4, rtol=1e-4)


def test_config_is_found_in_the_weights(network):
    swin, bert = network.config.encoder.swin, network.config.encoder.bert
    assert swin == dataclasses.replace(TINY.encoder.swin, drop_path_rate=0.3)
    assert (bert.dim, bert.num_layers, bert.vocabulary_size) == (64, 3, 60)
    assert network.input_spec.image_size == (480, 480)
    assert network.input_spec.tokenizer.kind == "bert"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda state: state.pop("classifier.conv1_1.bias"),
            ["missing", "classifier.conv1_1.bias"],
        ),
        (lambda state: state.update(extra=torch.ones(1)), ["unexpected", "extra"]),
        (
            lambda state: state.update({"classifier.conv1_1.bias": torch.ones(3)}),
            ["another shape", "mask_decoder.head.bias"],
        ),
    ],
)
def test_keys_that_do_not_fit_are_listed(tiny_state, change, words):
    state = dict(tiny_state)
    change(state)
    with pytest.raises(InputError) as caught:
        CONVERTERS["dmmi"](state)
    assert all(word in str(caught.value) for word in words)


def test_a_file_without_bert_is_refused(tiny_state, tmp_path, capsys):
    torch.save({"model": tiny_state}, tmp_path / "half.pth")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "half.pth"), "--from", "dmmi", "--out", str(tmp_path / "model")])
    assert "bert_model" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", MANIFESTS)
def test_every_released_key_is_consumed(name, reference):
    folder = reference / "manifests"
    manifest, bert = (
        json.loads((folder / f"{each}_manifest.json").read_text()) for each in (name, "bert_base")
    )
    with torch.device("meta"):
        state = {
            key: torch.zeros(shape, dtype=torch.long if dtype.startswith("int") else torch.float32)
            for key, shape, dtype in manifest["state_dict"]
        }
        state |= {f"{BERT_PART}.{key}": torch.zeros(shape) for key, shape, _ in bert["state_dict"]}
        converted = CONVERTERS["dmmi"](state)
    dead = [key for key in state if _is_dead(key)]
    dead_weights = sum(state[key].numel() for key in dead if "position_index" not in key)
    projections = sum(".attn.qkv." in key for key in state)
    assert len(converted.state_dict()) == len(state) - len(dead) + 2 * projections
    parameters = sum(p.numel() for p in converted.parameters())
    assert parameters == manifest["n_params"] + bert["n_params"] - dead_weights
