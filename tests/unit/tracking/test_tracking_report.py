import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tris.cli.report import main
from tris.errors import InputError
from tris.tracking.charts import Series, line_chart, mean_series, nice_ticks
from tris.tracking.panels import save_gallery
from tris.tracking.report import write_report
from tris.tracking.report_tables import headlines, split_table
from tris.tracking.runs import group_runs, read_run


class Balance(HTMLParser):
    """Collects tags that are closed wrongly and the images."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.images = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def parse(page):
    parser = Balance()
    parser.feed(page.read_text("utf-8"))
    return parser


def plain(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text("utf-8")))


def report(folders, output, **more):
    """Write the page of these runs and return its path."""
    return write_report([read_run(folder) for folder in folders], output, **more)


def add_split(run, split, figures):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["segmenter"][split] = figures
    (run / "metrics.json").write_text(json.dumps(metrics))
    return run


def test_the_page_is_well_formed(make_run, tmp_path):
    page = report([make_run("a"), make_run("b", seed=1)], tmp_path / "out")
    parser = parse(page)
    assert (parser.open, parser.wrong) == ([], [])


def test_every_picture_is_there_and_described(make_run, tmp_path):
    page = report([make_run("a")], tmp_path / "out")
    images = parse(page).images
    assert len(images) == 2 * 5
    for image in images:
        assert (page.parent / image["src"]).is_file()
        assert "the red <ring>" in image["alt"]


def test_a_refused_sentence_has_words_instead_of_a_mask_and_a_peak(make_run, make_item, tmp_path):
    run = make_run("a")
    nothing = np.zeros((24, 32), np.uint8)
    save_gallery([make_item(1, prediction=nothing), make_item(2)], run / "gallery")
    page = report([run], tmp_path / "out")
    pictures = {
        image["src"]: image["alt"] for image in parse(page).images if "-prediction" in image["src"]
    }
    refused, found = sorted(pictures)
    assert pictures[refused].endswith(": nothing here")
    assert pictures[found].endswith("% of the image")
    drawn = np.asarray(Image.open(page.parent / refused).convert("RGB"))
    assert (drawn.max(axis=2) - drawn.min(axis=2)).max() < 40  # no colour of a peak or an object
    assert drawn.max() > 200  # white words


def test_the_sentence_is_escaped(make_run, tmp_path):
    text = report([make_run("a")], tmp_path / "out").read_text()
    assert "<ring>" not in text
    assert "the red &lt;ring&gt;" in text


def test_the_figures_are_on_the_page(make_run, tmp_path):
    text = plain(report([make_run("a")], tmp_path / "out"))
    assert "Stage 2: segmenter 64.0 54.0 54.0 54.0 54.0 27.0" in text


def test_the_large_numbers_are_the_segmenters_and_no_ceilings(make_run):
    run = make_run("a")
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("ceiling_round1", "ceiling", "ceiling_dmmi"):
        metrics[name] = {"val": {"mean_iou": 0.99}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    groups = group_runs([read_run(run)])
    (headline,) = headlines(groups)
    assert headline.figures[0].value == "54.0"
    kinds = [step.kind for step in split_table(groups, "val").steps]
    assert kinds == ["baseline", "response", "labels", "segmenter", *["ceiling"] * 3]


def test_seeds_show_mean_and_spread(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", seed=1, shift=0.1)]
    assert "59.0 ±7.1" in plain(report(runs, tmp_path / "out"))


@pytest.mark.parametrize("is_alone", [False, True])
def test_splits_of_several_objects_or_none_are_on_the_page(make_run, tmp_path, is_alone):
    runs = [make_run("a"), make_run("b", seed=1)]
    for number, run in enumerate(runs):
        if is_alone:
            (run / "metrics.json").write_text('{"segmenter": {}}')
        figures = {"generalized_mean_iou": 0.7 + number / 10, "cumulative_iou": 0.6}
        by_type = {"none": {"generalized_mean_iou": 0.5}}
        add_split(run, "gres_val", {**figures, "mean_iou": 0.5, "by_type": by_type})
    page = report(runs, tmp_path / "out")
    text = plain(page)
    assert "Split gres_val Step gIoU cIoU Stage 2: segmenter 75.0 ±7.1 60.0 ±0.0" in text
    assert "gIoU: mean IoU where" in text
    assert ("Split val" in text, "PointM: the peak" in text) == (not is_alone, not is_alone)
    assert "Nothing has been evaluated yet" not in text
    parser = parse(page)
    assert (parser.open, parser.wrong) == ([], [])


def test_a_page_without_such_splits_does_not_explain_them(make_run, tmp_path):
    assert "gIoU" not in plain(report([make_run("a")], tmp_path / "out"))


def test_other_settings_stand_side_by_side(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", name="wide", shift=0.1, optim={"lr": 3})]
    text = plain(report(runs, tmp_path / "out"))
    assert "Stage 2: segmenter synthetic 64.0" in text
    assert "optim.lr – 3" in text


def test_one_sentence_of_several_runs_shares_a_card(make_run, tmp_path):
    page = report([make_run("a"), make_run("b", seed=1)], tmp_path / "out")
    assert page.read_text().count("<article") == 2
    assert len(parse(page).images) == 2 * (2 + 2 * 3)


@pytest.mark.parametrize("left", ["config.json", "metrics.json", "gallery", "segmenter"])
def test_a_run_with_one_part_alone_has_a_page(make_run, tmp_path, left):
    run = make_run("a")
    for path in list(run.iterdir()):
        if path.name not in (left, "config.json"):
            path.rename(tmp_path / f"away-{path.name}")
    if left == "config.json":
        with pytest.raises(InputError, match="is no run"):
            report([run], tmp_path / "out")
    else:
        assert parse(report([run], tmp_path / "out")).wrong == []


def test_the_gallery_can_be_shorter(make_run, tmp_path):
    page = report([make_run("a", items=5)], tmp_path / "out", most_sentences=3)
    assert page.read_text().count("<article") == 3


def test_other_files_in_the_output_folder_stay(make_run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    run = make_run("a")
    report([run], tmp_path / "out")
    report([run], tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["index.html", "index_files", "mine.txt"]


def test_a_folder_that_is_no_run_leaves_the_old_page(make_run, tmp_path):
    page = report([make_run("a")], tmp_path / "out")
    before = page.read_text()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "absent"), "--out", str(tmp_path / "out")])
    assert page.read_text() == before


def test_the_page_asks_nothing_of_the_network(make_run, tmp_path):
    text = report([make_run("a")], tmp_path / "out").read_text()
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text


def test_a_chart_is_valid_xml_and_has_a_text_alternative():
    chart = line_chart("mIoU <%>", [Series('a "run"', [(0, 1.0), (10, 2.0)])])
    element = ElementTree.fromstring(str(chart))
    assert element.get("aria-label") == 'mIoU <%> over training steps: a "run" ends at 2'


def test_values_that_are_not_finite_are_left_out():
    chart = line_chart("loss", [Series("a", [(0, 1.0), (1, float("nan")), (2, 1.5)])])
    assert "nan" not in chart
    assert chart.count("<circle") == 2


def test_a_chart_without_points_is_refused():
    with pytest.raises(ValueError, match="no points"):
        line_chart("loss", [Series("a", [(0, float("inf"))])])


def test_a_single_point_can_be_drawn():
    assert line_chart("mIoU", [Series("a", [(0, 0.0)])]).count("<circle") == 1


def test_the_mean_covers_the_shared_steps():
    assert mean_series([[(0, 1.0), (5, 2.0)], [(5, 4.0), (9, 9.0)]]) == [(5, 3.0)]


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_enclose_the_values_and_are_few(low, span):
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 8
    slack = 1e-6 * (ticks[1] - ticks[0])
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack


def test_the_command_prints_the_table_and_writes_beside_the_run(make_run, capsys):
    run = make_run("a")
    main([str(run)])
    printed = capsys.readouterr().out
    assert "Stage 2: segmenter" in printed
    assert (run / "report" / "index.html").is_file()


def test_the_command_prints_markdown(make_run, capsys, tmp_path):
    main([str(make_run("a")), "--out", str(tmp_path / "out"), "--markdown"])
    assert "| Stage 2: segmenter |" in capsys.readouterr().out


@pytest.mark.parametrize("switches", [[], ["--markdown"]])
def test_the_command_prints_splits_of_several_objects_or_none(make_run, capsys, switches):
    run = add_split(make_run("a"), "gres_val", {"generalized_mean_iou": 0.702})
    main([str(run), *switches])
    printed = capsys.readouterr().out
    assert printed.index("val, %") < printed.index("gres_val, %")
    assert "70.2" in printed


def test_the_command_reads_every_run_once(make_run, tmp_path, monkeypatch):
    read = []

    def load_gallery(folder):
        read.append(folder.parent)
        return []

    monkeypatch.setattr("tris.tracking.runs.load_gallery", load_gallery)
    folders = [make_run("a"), make_run("b", seed=1)]
    main([*map(str, folders), "--out", str(tmp_path / "out")])
    assert read == folders


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "at least one run"),
        (["absent"], "is no folder"),
        (["--gallery", "-1", "RUN"], "0 or more"),
        (["RUN", "--out", "RUN/metrics.json"], "is a file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(make_run, capsys, arguments, sentence):
    run = str(make_run("a"))
    with pytest.raises(SystemExit) as exit_info:
        main([one.replace("RUN", run) for one in arguments])
    assert exit_info.value.code == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1
