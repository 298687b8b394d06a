"""The page in a real Chromium, served on a port of this machine: what a click does, and what the page never does."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from superlora_diffusion.app.serve import served
from superlora_diffusion.app.session import Session
from superlora_diffusion.app.start import Start

from .conftest import NASTY

pytest.importorskip("gradio")

DESKTOP = {"viewport": {"width": 1360, "height": 950}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address(place):
    start = Start((place.one, place.three, place.away), place.sweep)
    with served(Session(torch.device("cpu")), start, "127.0.0.1", free_port()) as address:
        yield address


def visit(browser, address, **options):
    """The opened page; everything it says, throws or asks of others is noted."""
    context = browser.new_context(**(DESKTOP | options))
    context.set_default_timeout(60_000)  # a shared machine may be slow
    page = context.new_page()
    seen = SimpleNamespace(page=page, said=[], asked=[], files={})
    page.on("console", lambda message: seen.said.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("dialog", lambda dialog: (seen.said.append(dialog.message), dialog.dismiss()))

    def route(request):
        url = request.request.url
        ours = url.startswith((address, "data:", "blob:"))
        seen.asked += [] if ours else [url]
        request.continue_() if ours else request.abort()

    context.route("**/*", route)
    page.goto(address)
    wait_summary(page, "one: ")
    page.wait_for_selector("#front [data-point]")
    return seen


@pytest.fixture
def seen(browser, address):
    """A fresh visit; at its end the page must have been quiet."""
    seen = visit(browser, address)
    yield seen
    assert (seen.said, seen.asked) == ([], [])
    seen.page.context.close()


@pytest.fixture
def opened(seen):
    return seen.page


def wait_summary(page, text):
    page.wait_for_function("t => document.querySelector('#summary')?.innerText.includes(t)", arg=text)


def source(page, name):
    found = page.locator(f"#{name}-picture img")
    return found.get_attribute("src") if found.count() else None


def picture(page, name):
    """What a picture's file holds, by a hash of its pixels."""
    data = page.request.get(source(page, name)).body()
    assert data.startswith(b"\x89PNG")
    from PIL import Image

    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(data)
        file.flush()
        with Image.open(file.name) as image:
            return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def draws(page, act):
    """What base and adapter look like after the act has drawn anew."""
    before = source(page, "base")
    act()
    page.wait_for_function(
        "s => { const i = document.querySelector('#base-picture img'); return i && i.src && i.src !== s; }",
        arg=before,
    )
    page.wait_for_function(
        "() => [...document.querySelectorAll('#gallery img')].some(i => i.naturalWidth > 0)"
    )
    return picture(page, "base"), picture(page, "adapted")


def press(page):
    return draws(page, lambda: page.click("#draw"))


def slide(page, value):
    """Drag the scale to a value (-1 to 2) and let go."""
    box = page.locator("#scale input[type=range]").bounding_box()
    x = box["x"] + 8 + (box["width"] - 16) * (value + 1) / 3
    page.mouse.move(box["x"] + box["width"] * 2 / 3, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()


def choose(page, which, text):
    box = page.locator(f"#{which}").get_by_role("textbox")
    box.fill(text)
    box.press("Enter")


def error_text(page):
    toast = page.locator(".toast-body.error").last
    toast.wait_for()
    return toast.inner_text()


def test_the_scale_moves_the_adapted_picture_and_leaves_the_base(opened):
    base, adapted = press(opened)
    assert base != adapted
    assert press(opened) == (base, adapted)  # the same noise again
    moved = draws(opened, lambda: slide(opened, 0.4))
    assert moved[0] == base and moved[1] not in (base, adapted)
    number = opened.locator("#scale input[type=number]")
    number.fill("0")
    assert draws(opened, lambda: number.press("Tab")) == (base, base)
    assert opened.locator("#gallery .gallery-item").count() == 3  # the same twice is shown once
    captions = opened.locator("#gallery .caption-label").all_inner_texts()
    assert captions[0].startswith("one, scale 0, seed 0") and captions[-1].startswith("one, scale 1,")


def test_a_seed_and_a_class_are_what_is_drawn_and_files_are_downloaded(opened, tmp_path):
    first = press(opened)
    opened.locator("#seed input").fill("7")
    second = press(opened)
    assert first[0] != second[0] and first[1] != second[1]
    opened.locator("#class input").click()
    opened.get_by_role("option", name="oak").click()
    assert press(opened)[0] != second[0]
    with opened.expect_download() as caught:
        opened.locator("#adapted-picture a[download]").click()
    caught.value.save_as(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    with opened.expect_download() as caught:
        opened.get_by_label("Download All").click()
    assert Path(caught.value.suggested_filename).suffix == ".zip"
    where = re.search(r"file=(.*)$", source(opened, "base"))[1]
    assert where.startswith(os.environ["GRADIO_TEMP_DIR"]) and "superlora-app-" in where


def test_two_adapters_are_mixed(opened, place):
    alone = press(opened)
    opened.locator("#second-choice input").click()
    opened.get_by_role("option", name=place.three).click()
    wait_summary(opened, "one + three")
    mixed = press(opened)
    assert mixed[0] == alone[0] and mixed[1] != alone[1]
    assert "weights 0.5 and 0.5" in opened.locator("#gallery .caption-label").first.inner_text()
    choose(opened, "second", place.away)
    assert "the adapters stand on different bases" in error_text(opened)


@pytest.mark.parametrize("path", ["/gone/<b>folder</b>", "{folder}"])
def test_a_bad_folder_is_told_and_no_trace_is_shown(opened, place, path, capfd):
    choose(opened, "first", path.format(folder=place.folder))
    text = error_text(opened)
    opened.click("#draw")
    assert path.format(folder=place.folder) in text and "&" not in text
    body = opened.inner_text("body")
    assert "Traceback" not in body and 'File "' not in body
    choose(opened, "first", place.three)
    wait_summary(opened, "three: ")
    press(opened)
    assert opened.locator("#gallery .gallery-item").count() == 1  # nothing was drawn from the bad one
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err


def names(page):
    return page.locator("#front [data-point]").evaluate_all("e => e.map(p => p.getAttribute('aria-label'))")


def test_a_point_of_the_sweep_is_drawn_from(opened, place):
    of_one = press(opened)
    told = names(opened)
    assert len(told) == 3 and told[1].startswith(NASTY)
    large = next(number for number, text in enumerate(told) if text.startswith("large"))
    point = opened.locator(f"#front [data-point='{large}'] circle.reach")
    picked = draws(opened, point.click)
    wait_summary(opened, "large: ")
    assert picked[0] == of_one[0] and picked[1] != of_one[1]
    assert opened.locator("#first").get_by_role("textbox").input_value().endswith("cells/large")
    assert opened.locator("#front .chosen").get_attribute("data-point") == str(large)
    by_key = draws(opened, lambda: opened.locator("#front [data-point='0']").press("Enter"))
    assert by_key == of_one  # the sweep's "small" is a copy of one
    row = opened.locator("#front-table [role=gridcell]", has_text="img src").first
    nasty = draws(opened, row.click)
    assert nasty[1] not in (picked[1], of_one[1])


def test_a_sweep_is_read_by_its_folder_and_another_score_shown(opened, place, tmp_path):
    opened.locator("#score input").click()
    opened.get_by_role("option", name="FID").click()
    opened.wait_for_function("document.querySelector('#front').innerText.includes('FID (lower')")
    folder = opened.locator("#sweep-folder textarea, #sweep-folder input").first
    folder.fill(str(tmp_path))
    opened.click("#sweep-read")
    assert "holds no run" in error_text(opened)
    assert len(names(opened)) == 3


def test_it_fits_a_phone_and_the_dark(browser, address):
    seen = visit(browser, address, **PHONE)
    press(seen.page)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("first", "draw", "base-picture", "adapted-picture", "scale", "gallery", "front"):
        box = seen.page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["width"] > 90, name
    assert (seen.said, seen.asked) == ([], [])
    seen.page.context.close()
