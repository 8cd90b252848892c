import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tris.cli import demo
from tris.cli.inference import Prediction
from tris.errors import InputError
from tris.tracking.overlays import draw_refusal

PHOTOGRAPH = Image.new("RGBA", (40, 30), (90, 120, 150, 255))


class Recorder:
    """Stands for every gradio component: a context manager that keeps what it was given."""

    def __init__(self, *args, **kwargs):
        self.kwargs = kwargs

    def __enter__(self):
        return self

    def __exit__(self, *error): ...

    def click(self, function, *, inputs, outputs):
        FakeGradio.clicked = function

    def launch(self, **kwargs):
        FakeGradio.launched = kwargs
        if FakeGradio.is_port_busy:
            raise OSError("Cannot find empty port")


class FakeGradio(ModuleType):
    Blocks = Markdown = Row = Column = Image = Textbox = Button = Gallery = Recorder
    Error = RuntimeError
    is_port_busy = False
    clicked = None
    launched = None


@pytest.fixture
def gradio(monkeypatch):
    module = FakeGradio("gradio")
    monkeypatch.setitem(sys.modules, "gradio", module)
    monkeypatch.setattr(FakeGradio, "is_port_busy", False)
    return module


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(demo, "load_network", lambda source: (None, None))


def find_the_left_half(photograph, sentences):
    mask = np.zeros((photograph.height, photograph.width), bool)
    mask[:, : photograph.width // 2] = True
    found = Prediction(mask, (3, 4), {"peak": 0.9}, no_target=False)
    nothing = Prediction(~mask & mask, (3, 4), {"peak": 0.1}, no_target=True)
    return [nothing if "unicorn" in one else found for one in sentences]


def test_every_line_has_an_overlay_and_a_caption():
    shown = ask("left half\n\n  the unicorn \n")
    assert [caption for _, caption in shown] == [
        "left half: 50.0 % of the image, peak 0.90",
        "the unicorn: nothing here",
    ]
    assert all(overlay.shape == (30, 40, 3) for overlay, _ in shown)
    assert (shown[1][0] == draw_refusal(np.asarray(PHOTOGRAPH.convert("RGB")))).all()


@pytest.mark.parametrize(("photograph", "text"), [(None, "left half"), (PHOTOGRAPH, " \n")])
def test_what_is_missing_is_said(photograph, text):
    with pytest.raises(InputError, match="Upload a photograph"):
        ask(text, photograph)


def test_the_page_is_served_to_this_computer_only(gradio):
    demo.main(["--model", "somewhere", "--port", "8123"])
    assert gradio.launched == {"server_name": "127.0.0.1", "server_port": 8123, "share": False}


def test_a_mistake_on_the_page_is_told_there(gradio):
    demo.main(["--model", "somewhere"])
    with pytest.raises(RuntimeError, match="Upload a photograph"):
        gradio.clicked(None, "")


def test_a_busy_port_is_one_sentence(gradio, monkeypatch, capsys):
    monkeypatch.setattr(FakeGradio, "is_port_busy", True)
    assert exit_code(["--model", "somewhere"]) == 2
    assert "choose another with --port" in capsys.readouterr().err


def test_without_gradio_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert exit_code(["--model", "somewhere"]) == 2
    assert "pip install 'tris[demo]'" in capsys.readouterr().err


def test_an_impossible_port_is_refused(capsys):
    assert exit_code(["--model", "somewhere", "--port", "0"]) == 2
    assert "from 1 to 65535" in capsys.readouterr().err


def exit_code(arguments):
    with pytest.raises(SystemExit) as exit_info:
        demo.main(arguments)
    return exit_info.value.code


def ask(text, photograph=PHOTOGRAPH):
    return demo.answer(find_the_left_half, photograph, text)
