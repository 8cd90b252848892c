"""`tris demo`: a page on this computer where a photograph and sentences become masks."""

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import tyro
from PIL import Image

from tris.cli.drawing import draw_prediction
from tris.cli.inference import Prediction, load_network, predict
from tris.errors import InputError, exits_cleanly
from tris.tracking.overlays import REFUSAL
from tris.tracking.overlays import Image as Pixels

ADDRESS = "127.0.0.1"
Answer = list[tuple[Pixels, str]]
Segment = Callable[[Image.Image, Sequence[str]], list[Prediction]]
Respond = Callable[[Image.Image | None, str], Answer]


@dataclass(frozen=True)
class DemoArguments:
    """Try a network in the browser; the page is served to this computer only.

    Attributes:
        model: Model directory or hub repository, stage 1 or stage 2.
        port: Port of the page.
    """

    model: str
    port: int = 7860


@exits_cleanly
def main(arguments: list[str]) -> None:
    """Run `tris demo` with the words that follow it on the command line."""
    wanted = tyro.cli(DemoArguments, args=arguments, prog="tris demo")
    if not 1 <= wanted.port <= 65535:
        raise InputError(f"--port {wanted.port} is no port; give a number from 1 to 65535.")
    gradio = import_gradio()
    network, tokenizer = load_network(wanted.model)

    def segment(photograph: Image.Image, sentences: Sequence[str]) -> list[Prediction]:
        return predict(network, tokenizer, photograph, expressions=sentences)

    _serve(gradio, functools.partial(answer, segment), wanted)


def import_gradio() -> ModuleType:
    """Return gradio, which only this command needs.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise InputError(
            f"tris demo needs gradio ({error}): install it with pip install 'tris[demo]'."
        ) from error


def answer(segment: Segment, photograph: Image.Image | None, text: str) -> Answer:
    """Return an overlay and a caption for every line of the text.

    Args:
        segment: Makes one prediction per sentence.
        photograph: What was uploaded; None = nothing yet.
        text: One sentence per line; empty lines are left out.

    Raises:
        InputError: If the photograph or the sentences are missing.
    """
    sentences = [line.strip() for line in text.splitlines() if line.strip()]
    if photograph is None or not sentences:
        raise InputError("Upload a photograph and write at least one sentence, one per line.")
    photograph = photograph.convert("RGB")
    predictions = segment(photograph, sentences)
    return [
        (draw_prediction(photograph, one), _caption(sentence, one))
        for sentence, one in zip(sentences, predictions, strict=True)
    ]


def _caption(sentence: str, prediction: Prediction) -> str:
    if prediction.no_target:
        return f"{sentence}: {REFUSAL}"
    share = 100 * float(prediction.mask.mean())
    return f"{sentence}: {share:.1f} % of the image, peak {prediction.scores['peak']:.2f}"


def _serve(gradio: ModuleType, respond: Respond, wanted: DemoArguments) -> None:
    with gradio.Blocks(title="tris", analytics_enabled=False) as app:
        gradio.Markdown(f"# tris\nSegment what a sentence refers to. Network: `{wanted.model}`.")
        with gradio.Row():
            with gradio.Column():
                photograph = gradio.Image(type="pil", label="Photograph")
                sentences = gradio.Textbox(lines=3, label="Sentences, one per line")
                button = gradio.Button("Segment", variant="primary")
            gallery = gradio.Gallery(
                label="Masks; the ring marks the peak", columns=2, object_fit="contain"
            )
        shown = functools.partial(_respond_or_tell, gradio, respond)
        button.click(shown, inputs=[photograph, sentences], outputs=gallery)
    try:
        app.launch(server_name=ADDRESS, server_port=wanted.port, share=False)
    except OSError as error:
        raise InputError(
            f"Port {wanted.port} is taken or not allowed; choose another with --port."
        ) from error


def _respond_or_tell(
    gradio: ModuleType, respond: Respond, photograph: Image.Image | None, text: str
) -> Answer:
    try:
        return respond(photograph, text)
    except InputError as error:
        raise gradio.Error(str(error)) from error
