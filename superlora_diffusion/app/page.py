"""The page itself: gradio's parts and what they call. All else is in ``session``, ``sweeps`` and ``pictures``."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import torch

from ..errors import SuperLoRAError
from ..sampling.config import SamplerName
from ..sampling.request import SampleRequest
from .pictures import PictureFolder
from .scatter import TABLE_HEAD, draw_scatter, table_rows
from .session import Opened, Session
from .start import Start
from .style import PICK, SCROLL
from .sweeps import Front, read_front

MOST_PICTURES, _SHOWN = 64, 24  # of one drawing; drawings in the gallery
TITLE = "superlora-diff"
# One network: what reads or draws waits for what does so already, whoever's page asked.
_QUEUED = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}


@contextmanager
def told() -> Iterator[None]:
    """What a user can put right is said on the page; anything else is our fault, and the terminal has its trace."""
    try:
        yield
    except SuperLoRAError as error:
        raise _message(str(error)) from None
    except torch.OutOfMemoryError:
        raise _message("the device's memory is too small for this; ask for fewer pictures.") from None
    except OSError as error:
        raise _message(f"a file could not be read or written: {error}") from None


def _message(text: str) -> gr.Error:
    lines = html.escape(text).replace("\n", "<br>")
    return gr.Error(lines, duration=12, print_exception=False)


class Page:
    """Makes the page and answers it."""

    def __init__(self, session: Session, pictures: PictureFolder, start: Start) -> None:
        self.session, self.pictures, self.start = session, pictures, start

    # --- what is called ---

    def open(self, first: str, second: str, opened: Opened | None, key: str) -> list[Any]:
        """Values of the controls for what was chosen; nothing where it is what was opened before."""
        wanted = f"{first or ''}\n{second or ''}".strip()
        if opened is not None and key == wanted:
            return [gr.skip()] * len(self._opened_parts)
        with told():
            found = self.session.open(first or "", second or "")
        by_class = bool(found.class_names)
        updates = [
            found,
            wanted,
            summary(found),
            gr.update(choices=found.class_choices, value=found.class_choices[0][1], visible=by_class),
            gr.update(visible=found.takes_text, value=found.prompts[0] if found.prompts else ""),
            gr.update(visible=found.takes_text, value=found.sampling.negative_prompt),
            found.suggested_count,
            found.sampling.sampler,
            found.sampling.steps,
            gr.update(value=found.sampling.guidance_scale, visible=found.can_guide),
            gr.update(value=1.0, interactive=found.can_scale),
        ]
        for note in found.notes:
            gr.Warning(html.escape(note), duration=15)
        return updates

    def draw(
        self,
        opened: Opened,
        first: str,
        second: str,
        weight_first: float,
        weight_second: float,
        classes: str,
        prompt: str,
        negative_prompt: str,
        count: int,
        seed: int,
        sampler: str,
        steps: int,
        guidance_scale: float,
        scale: float,
        shown: list[tuple[str, str]],
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - gradio finds it by this default
    ) -> list[Any]:
        """Pictures of base and adapter, and the gallery with them in front."""
        sampling = {"sampler": sampler, "steps": steps, "guidance_scale": guidance_scale}
        if opened.takes_text:
            sampling["negative_prompt"] = negative_prompt or ""
        weights = [weight_first, weight_second] if (second or "").strip() else [1.0, 0.0]
        with told():
            request = SampleRequest(
                classes=classes if opened.class_names and classes else None,
                prompts=(prompt,) if opened.takes_text and prompt.strip() else (),
                count=count,
                seed=seed,
                sampling=sampling,
                scale=scale,
            )
            progress(0, desc="drawing")
            drawn = self.session.draw(
                [first or "", second or ""],
                weights,
                request,
                lambda done, total: progress((done, total), desc="drawing", unit="steps"),
            )
            sheets = self.pictures.save(drawn)
        adapted = gr.update(
            value=None if sheets.adapted is None else str(sheets.adapted),
            label=drawn.name if drawn.adapted is not None else "with an adapter (none is chosen)",
        )
        again = bool(shown) and _same_file(shown[0][0], sheets.both)
        shown = [(str(sheets.both), sheets.caption), *shown[again:]][:_SHOWN]
        return [str(sheets.base), adapted, shown, shown]

    def read_sweep(self, folder: str, score: str | None) -> list[Any]:
        """The front of a folder of runs."""
        with told():
            if not folder.strip():
                raise SuperLoRAError("no folder is named: type the folder of a sweep, or of several runs.")
            try:
                front = read_front(folder, score)
            except SuperLoRAError:
                if score is None:
                    raise
                front = read_front(folder)  # another folder need not have the score that was shown
        choices = [(metric.label, metric.key) for metric in front.metrics]
        text = " ".join(html.escape(text) for text in (f"Measured alike: {front.protocol}.", *front.notes))
        return [
            front,
            draw_scatter(front),
            gr.update(value=table_rows(front), visible=True),
            gr.update(choices=choices, value=front.metric.key, visible=True),
            text,
        ]

    def pick_point(self, front: Front | None, event: gr.EventData) -> list[Any]:
        """A point of the picture was clicked."""
        return self._pick(front, int(event.point))

    def pick_row(self, front: Front | None, event: gr.SelectData) -> list[Any]:
        """A row of the table was clicked."""
        return self._pick(front, int(event.row_value[0]))

    def _pick(self, front: Front, number: int) -> list[Any]:
        return [str(front.points[number].run), "", draw_scatter(front, number)]

    # --- how it looks ---

    def build(self) -> gr.Blocks:
        """The page, not yet served."""
        with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
            gr.Markdown(
                "# superlora-diff\nThe same noise, drawn by the base and by the base with an adapter."
            )
            self._build_sweep()
            with gr.Row():
                with gr.Column(scale=1, min_width=300):
                    self._build_source()
                    self._build_request()
                with gr.Column(scale=2, min_width=320, elem_id="pictures"):
                    self._build_pictures()
            self._connect(page)
        return page

    def _build_source(self) -> None:
        sources = list(self.start.sources)
        self.first = gr.Textbox(
            sources[0] if sources else "",
            label="A: run, adapter or base",
            info="A folder, a hub id or a base's name; Enter opens it.",
            elem_id="first",
        )
        self.choose_first = self._chooser("first-choice")
        with gr.Accordion("Mix with another adapter", open=len(sources) > 1):
            self.second = gr.Textbox(
                label="B: run or adapter", info="On the same base; empty for A alone.", elem_id="second"
            )
            self.choose_second = self._chooser("second-choice")
            self.weight_first = gr.Slider(-1, 2, 0.5, step=0.05, label="Weight of A", elem_id="weight-a")
            self.weight_second = gr.Slider(-1, 2, 0.5, step=0.05, label="Weight of B", elem_id="weight-b")
        self.summary = gr.Markdown("Nothing is opened yet.", elem_id="summary")

    def _chooser(self, name: str) -> gr.Dropdown:
        """What the page was started with, to choose from instead of typing."""
        sources = list(self.start.sources)
        return gr.Dropdown(
            sources, value=None, label="or one of these", visible=len(sources) > 1, elem_id=name
        )

    def _build_request(self) -> None:
        self.classes = gr.Dropdown(label="Class", elem_id="class", visible=False)
        self.prompt = gr.Textbox(label="Prompt", elem_id="prompt", visible=False)
        self.negative = gr.Textbox(label="Negative prompt", elem_id="negative", visible=False)
        with gr.Row():
            self.count = gr.Slider(
                1, MOST_PICTURES, 8, step=1, label="Pictures", min_width=150, elem_id="count"
            )
            self.seed = gr.Number(0, precision=0, minimum=0, label="Seed", min_width=100, elem_id="seed")
        with gr.Accordion("Sampling", open=False):
            self.sampler = gr.Dropdown(
                list(get_args(SamplerName)), value="dpm++2m", label="Sampler", elem_id="sampler"
            )
            self.steps = gr.Slider(1, 250, 10, step=1, label="Steps", elem_id="steps")
            self.guidance = gr.Slider(
                0, 15, 1, step=0.1, label="Guidance", info="1 is none.", elem_id="guidance"
            )

    def _build_pictures(self) -> None:
        with gr.Row(equal_height=True):
            looks = {"interactive": False, "buttons": ["download", "fullscreen"]}
            self.base_picture = gr.Image(label="base", elem_id="base-picture", min_width=260, **looks)
            self.adapted_picture = gr.Image(
                label="with the adapter", elem_id="adapted-picture", min_width=260, **looks
            )
        with gr.Row(equal_height=True):
            self.scale = gr.Slider(
                -1,
                2,
                1.0,
                step=0.05,
                label="Scale of the adapter",
                info="0 is the base, 1 the adapter as it is stored. Draws when you let go.",
                scale=4,
                min_width=220,
                elem_id="scale",
            )
            self.button = gr.Button("Draw", variant="primary", scale=1, min_width=120, elem_id="draw")
        self.gallery = gr.Gallery(
            label="Drawn so far",
            columns=1,
            object_fit="contain",
            height="auto",
            interactive=False,
            buttons=["download", "download_all", "fullscreen"],
            elem_id="gallery",
        )

    def _build_sweep(self) -> None:
        with gr.Accordion("Choose from a sweep", open=bool(self.start.sweep), elem_id="sweep"):
            with gr.Row(equal_height=True):
                self.folder = gr.Textbox(
                    self.start.sweep, label="Folder of a sweep, or of runs", scale=4, elem_id="sweep-folder"
                )
                self.score = gr.Dropdown(
                    label="Score", visible=False, scale=2, min_width=160, elem_id="score"
                )
                self.read = gr.Button("Read", scale=1, min_width=100, elem_id="sweep-read")
            self.scatter = gr.HTML("", js_on_load=PICK, elem_id="front")
            self.table = gr.Dataframe(
                headers=list(TABLE_HEAD),
                datatype="str",
                interactive=False,
                visible=False,
                max_height=300,
                buttons=[],
                label="Click a point or a row to draw from it",
                elem_id="front-table",
            )
            self.sweep_note = gr.Markdown("", elem_id="sweep-note")

    def _connect(self, page: gr.Blocks) -> None:
        opened, key, shown, front = gr.State(None), gr.State(""), gr.State([]), gr.State(None)
        self._opened_parts = [
            opened, key, self.summary, self.classes, self.prompt, self.negative, self.count, self.sampler, self.steps,
            self.guidance, self.scale,
        ]  # fmt: skip
        opening = {
            "inputs": [self.first, self.second, opened, key],
            "outputs": self._opened_parts,
            "show_progress_on": self.summary,
            **_QUEUED,
        }
        drawing = {
            "inputs": [
                opened, self.first, self.second, self.weight_first, self.weight_second, self.classes, self.prompt,
                self.negative, self.count, self.seed, self.sampler, self.steps, self.guidance, self.scale, shown,
            ],
            "outputs": [self.base_picture, self.adapted_picture, self.gallery, shown],
            "show_progress_on": [self.base_picture, self.adapted_picture],
            **_QUEUED,
        }  # fmt: skip
        for part, chooser in ((self.first, self.choose_first), (self.second, self.choose_second)):
            for ask in (part.submit, part.blur):
                ask(self.open, show_progress="minimal", **opening)
            chosen = chooser.input(lambda path: path, chooser, part, **_QUEUED)
            chosen.success(self.open, show_progress="minimal", **opening)
        asks = [self.button.click, self.scale.release, self.weight_first.release, self.weight_second.release]
        for ask in (*asks, self.prompt.submit):
            ask(self.open, show_progress="hidden", **opening).success(self.draw, **drawing)
        reading = {
            "inputs": [self.folder, self.score],
            "outputs": [front, self.scatter, self.table, self.score, self.sweep_note],
            "show_progress_on": self.sweep_note,
            **_QUEUED,
        }
        for ask in (self.read.click, self.folder.submit, self.score.input):
            ask(self.read_sweep, **reading)
        picked = {"inputs": front, "outputs": [self.first, self.second, self.scatter], **_QUEUED}
        for ask, answer in ((self.scatter.pick, self.pick_point), (self.table.select, self.pick_row)):
            chain = ask(answer, **picked).success(self.open, show_progress="hidden", **opening)
            chain.success(None, js=SCROLL).success(self.draw, **drawing)
        if self.start.sources:
            page.load(self.open, show_progress="minimal", **opening)
        if self.start.sweep:
            page.load(self.read_sweep, **reading)


def _same_file(one: str, two: Path) -> bool:
    """Whether a drawing is what was drawn last: pressed twice, it is shown once."""
    return Path(one).is_file() and Path(one).read_bytes() == two.read_bytes()


def summary(opened: Opened) -> str:
    """What was opened, in a line."""
    base = f"base `{_plain(opened.base)}`"
    if opened.parameters == 0:
        return f"**{_plain(opened.name)}** alone, no adapter ({base})"
    fixed = "" if opened.can_scale else "; its method cannot be scaled"
    return f"**{_plain(opened.name)}**: {opened.parameters:,} trained numbers on {base}{fixed}"


def _plain(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    escaped = html.escape(text.replace("`", "'"))
    return "".join(f"&#{ord(sign)};" if sign in "*_[]$\\" else sign for sign in escaped)
