"""The report as a browser shows it: nothing missing, nothing fetched, readable on a phone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tris.tracking.local_log import LocalLog
from tris.tracking.panels import GalleryItem, save_gallery
from tris.tracking.report import write_report
from tris.tracking.runs import read_run

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
LOADED = "return [...document.images].filter(i => i.complete && i.naturalWidth > 0).length"

pytestmark = pytest.mark.slow


def write_run(run: Path, *, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"name": "synthetic", "seed": seed}))
    figures = {"mean_iou": 0.5 + seed / 100, "peak_in_mask_accuracy": 0.7123}
    types = ("attribute", "position", "relation", "an unusually long type of expression")
    by_type = {"by_type": dict.fromkeys(types, figures)}
    steps = ("baseline_saliency", "response", "prms", "labels", "segmenter", "ceiling")
    metrics = {step: {"val": figures | by_type} for step in steps}
    (run / "metrics.json").write_text(json.dumps(metrics))
    for job in ("response", "segmenter"):
        log = LocalLog(run / job / "metrics.jsonl")
        for step in range(0, 400, 20):
            log.append({"val/mIoU": step / 800, "val/PointM": step / 600, "train/loss": 2.0}, step)
        log.close()
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 30:60] = 1
    items = [
        GalleryItem(
            number,
            "the one with a sentence-of-one-very-long-word-" + "o" * 60,
            rng.integers(0, 255, (60, 90, 3), dtype=np.uint8),
            expression_type="attribute",
            response=rng.random((8, 8)).astype(np.float32),
            label=mask,
            prediction=mask,
            truth=mask,
            numbers={"label_iou": 0.9, "prediction_iou": 0.8},
        )
        for number in range(4)
    ]
    save_gallery(items, run / "gallery")
    return run


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = shutil.which("chromedriver")
    if not CHROMIUM.is_file() or driver is None:
        pytest.skip("no Chromium here (Debian packages chromium and chromium-driver)")
    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    runs = [write_run(folder / f"run{seed}", seed=seed) for seed in (0, 1, 2)]
    return write_report([read_run(run) for run in runs], folder / "out")


def show(browser, page, *, width, height=900):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())


def load_all_images(browser):
    browser.execute_script("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    browser.set_script_timeout(20)
    browser.execute_async_script(
        "Promise.all([...document.images].map(i => i.decode())).then(arguments[0], arguments[0])"
    )


def requested_addresses(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


@pytest.fixture(params=[1280, 390])
def shown(request, browser, page):
    show(browser, page, width=request.param)
    load_all_images(browser)
    return browser


def test_every_picture_is_loaded(shown):
    assert shown.execute_script(LOADED) == 4 * (2 + 3 * 3)


def test_the_console_is_silent(shown):
    assert shown.get_log("browser") == []


def test_only_files_of_the_report_are_requested(shown, page):
    addresses = requested_addresses(shown)
    assert page.as_uri() in addresses
    assert [one for one in addresses if not one.startswith((page.parent.as_uri(), "data:"))] == []


def test_the_page_is_no_wider_than_the_window(shown):
    assert shown.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_nothing_but_scrolling_tables_is_cut_off(shown):
    cut = shown.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll')"
        " && !e.classList.contains('skip') && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert cut == []


def test_the_figures_can_be_read(shown):
    text = shown.execute_script("return document.querySelector('tbody.segmenter').innerText")
    assert "71.2" in text
    assert "51.0 ±1.0" in text


def test_text_on_charts_stays_legible(shown):
    heights = shown.execute_script(
        "return [...document.querySelectorAll('svg text')]"
        ".map(text => text.getBoundingClientRect().height)"
    )
    assert min(heights) >= 9


def test_tables_and_links_can_be_reached_with_the_keyboard(shown):
    names = shown.execute_script(
        "return [...document.querySelectorAll('a, [tabindex]')].filter(e => e.tabIndex >= 0)"
        ".map(e => e.getAttribute('href') || e.className)"
    )
    assert "scroll" in names
    targets = [name[1:] for name in names if name.startswith("#")]
    assert len(targets) >= 4
    for target in targets:
        assert shown.execute_script("return !!document.getElementById(arguments[0])", target)


def test_dark_mode_changes_the_ground_and_keeps_the_contrast(browser, page):
    def luminance(scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        style = browser.execute_script(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
        return [sum(int(part) for part in colour[4:-1].split(",")) / 765 for colour in style]

    show(browser, page, width=1280)
    text, ground = luminance("light")
    dark_text, dark_ground = luminance("dark")
    luminance("")
    assert ground - text > 0.7
    assert dark_text - dark_ground > 0.7
