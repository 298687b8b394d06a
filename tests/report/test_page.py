"""The page in a real Chromium: what a reader sees, and what it never does (speak to the network, run a name)."""

import itertools
import re
from types import SimpleNamespace

import pytest

from superlora_diffusion.report.report import Options, write_report

from .material import SETTINGS, make_record, write_data, write_run

DESKTOP = {"viewport": {"width": 1360, "height": 900}, "color_scheme": "light"}
NASTY = ("<script>alert(1)</script>", "<b>x", "</script><img src=x onerror=alert(1)>", "&lt;i&gt; %{x} $e$")


@pytest.fixture(scope="module")
def page_file(sweep, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report([sweep], Options(out))
    return out


def visit(browser, path, **options):
    """The opened page; everything it says, throws or asks for is noted."""
    context = browser.new_context(**(DESKTOP | options))
    context.set_default_timeout(120_000)  # a shared machine may be slow
    page = context.new_page()
    seen = SimpleNamespace(page=page, said=[], thrown=[], asked=[])
    page.on("console", lambda message: seen.said.append(message.text))
    page.on("pageerror", lambda error: seen.thrown.append(str(error)))
    page.on("dialog", lambda dialog: (seen.thrown.append(dialog.message), dialog.dismiss()))

    def route(request):
        url = request.request.url
        seen.asked += [] if url == path.as_uri() else [url]
        request.continue_() if url == path.as_uri() else request.abort()

    context.route("**/*", route)
    page.goto(path.as_uri())
    page.wait_for_selector("#table tbody tr")
    return seen


@pytest.fixture
def opened(browser, page_file):
    """A fresh visit; at its end the page must have been quiet."""
    seen = visit(browser, page_file)
    yield seen.page
    assert (seen.said, seen.thrown, seen.asked) == ([], [], [])
    seen.page.context.close()


def points(page):
    return page.locator("#chart .scatterlayer .point")


def rows(page):
    """The names in the table, in order."""
    return page.locator("#table tbody .name").all_inner_texts()


def column(page, heading):
    heads = [text.rstrip(" ▴▾") for text in page.locator("#table thead th").all_inner_texts()]
    place = heads.index(heading) + 1
    texts = page.locator(f"#table tbody td:nth-child({place})").all_inner_texts()
    return [float(text.split(" ±")[0].replace(",", "")) for text in texts if text != "–"]


def centre(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_every_setting_is_a_point_and_a_row(opened):
    assert points(opened).count() == len(SETTINGS)
    assert [name for name in rows(opened) if name in SETTINGS] == list(SETTINGS)  # fewest parameters first
    assert opened.locator("#table tbody small").all_inner_texts() == ["no scores", "not finished"]
    assert opened.locator("#chart .errorbars path.yerror").count() == len(SETTINGS)
    assert "base tiny-base, 0 parameters: 4.9000" in opened.locator("#chart .annotation").all_text_contents()
    assert "N 1,000, 10 splits" in opened.locator("#caption").inner_text()
    ticks = opened.locator("#chart .xtick text").all_text_contents()
    assert ticks == ["10", "100", "1k", "10k", "100k"]


def test_hover_shows_the_setting(opened):
    traces = opened.evaluate("document.getElementById('chart').data.map(t => [t.meta.kind, t.meta.family])")
    drawn = [family for kind, family in traces if kind == "family"]
    place = drawn.index("lonkr")
    opened.mouse.move(
        *centre(opened.locator("#chart .scatterlayer .trace:has(.point)").nth(place).locator(".point"))
    )
    label = opened.locator("#chart .hoverlayer .hovertext")
    label.wait_for()
    text = label.text_content()
    for part in ("lonkr", "620 parameters", "IS distance 1.7100 ± 0.0141", "adapter.splits: 3"):
        assert part in text


def test_a_click_opens_samples_curves_and_command(opened, sweep):
    opened.mouse.click(*centre(points(opened).first))
    panel = opened.locator("#panel")
    panel.wait_for()
    assert panel.locator("#panel-title").inner_text() in SETTINGS
    widths = panel.locator("img").evaluate_all("images => images.map(i => i.naturalWidth)")
    assert len(widths) == 2 and all(width > 0 for width in widths)
    assert panel.locator("#curves .scatterlayer .trace").count() == 2
    assert f"superlora-diff train --config {sweep}/cells/" in panel.locator("#command").inner_text()
    assert "0.01 → 0.20000" in panel.locator("#race").inner_text()
    first = panel.locator("#grid").get_attribute("src")
    panel.get_by_role("button", name="seed 1").click()
    assert panel.locator("#grid").get_attribute("src") != first
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel.get_by_role("button", name="Copy").click()
    panel.get_by_text("Copied.").wait_for()
    assert opened.evaluate("navigator.clipboard.readText()") == panel.locator("#command").inner_text()
    panel.get_by_role("button", name="Close").click()
    assert not panel.is_visible()


def test_the_keyboard_alone_is_enough(opened):
    reached = set()
    for _ in range(120):
        opened.keyboard.press("Tab")
        name = opened.evaluate(
            "(e => e.id || e.dataset.key || (e.matches('#legend button') && 'legend') || e.tagName)"
            "(document.activeElement)"
        )
        outline = opened.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or name == "BODY", f"{name} shows no focus"
        reached.add(name)
        if name == "TR":
            break
    assert {
        "theme",
        "metric",
        "log",
        "published",
        "legend",
        "budget",
        "slider",
        "filter",
        "fid",
        "TR",
    } <= reached
    opened.keyboard.press("Enter")
    opened.locator("#panel").wait_for()
    assert opened.locator("#panel-title").inner_text() == "vector-13"
    opened.keyboard.press("Escape")
    assert not opened.locator("#panel").is_visible()
    assert opened.evaluate("document.activeElement.tagName") == "TR"  # back where one was


def test_the_table_filters_and_sorts(opened):
    total = len(SETTINGS) + 2
    opened.fill("#filter", "LORTA r")
    assert set(rows(opened)) == {name for name in SETTINGS if name.startswith("lorta")}
    opened.fill("#filter", "unfinished nonsense")
    assert rows(opened) == [] and opened.locator("#count").inner_text() == f"0 of {total} rows"
    opened.fill("#filter", "not finished")
    assert rows(opened) == ["broken-off"]
    opened.fill("#filter", "")
    for heading, key in (
        ("IS distance ↓", "is_distance"),
        ("accuracy ↑", "accuracy"),
        ("parameters", "parameters"),
    ):
        for direction in ("ascending", "descending"):
            button = opened.locator(f'#table thead [data-key="{key}"]')
            button.click()
            if key == "parameters" and direction == "ascending":
                assert button.locator("..").get_attribute("aria-sort") == "ascending"
            values = column(opened, heading)
            assert values == sorted(values, reverse=direction == "descending") and len(values) >= len(
                SETTINGS
            )
            if key != "parameters":
                assert set(rows(opened)[-2:]) == {"broken-off", "unscored"}  # what has no score stands last


def test_best_under_a_budget_is_the_brute_force_answer(opened):
    data = opened.evaluate("JSON.parse(document.getElementById('data').textContent).views[0]")
    for metric, budget in itertools.product(("is_distance", "accuracy"), (12, 13, 700, 5_376, 100_000)):
        check_best(opened, data, metric, budget)


def check_best(opened, data, metric, budget):
    higher = next(m["higher_is_better"] for m in data["metrics"] if m["key"] == metric)
    best = {}
    for setting in data["settings"]:
        mean, known = setting["scores"][metric]["mean"], best.get(setting["family"])
        if setting["parameters"] <= budget and (known is None or (mean > known[0]) == higher):
            best[setting["family"]] = (mean, setting["name"])
    expected = [
        (family, name) for family, (_, name) in sorted(best.items(), key=lambda i: i[1][0], reverse=higher)
    ]
    opened.select_option("#metric", metric)
    opened.fill("#budget", str(budget))
    shown = opened.locator("#best tbody tr")
    found = [(row.get_attribute("data-family"), row.locator("button").inner_text()) for row in shown.all()]
    assert found == expected and (bool(expected) == (budget >= 13))
    if not expected:
        assert "the smallest has 13" in opened.locator("#best").inner_text()


def test_the_slider_runs_from_the_smallest_to_the_largest(opened):
    slider = opened.locator("#slider")
    slider.fill("0")
    assert opened.input_value("#budget") == "13" and opened.locator("#best tbody tr").count() == 1
    slider.fill("1000")
    assert opened.input_value("#budget") == "63488"
    opened.locator("#best button").first.click()
    assert opened.locator("#panel-title").inner_text() == "dense"


def test_scores_can_be_chosen_and_published_points_switched_on(opened):
    assert opened.locator("#metric option").count() == 5
    opened.check("#published")
    assert points(opened).count() == len(SETTINGS) + 13
    opened.select_option("#metric", "fid")
    assert points(opened).count() == len(SETTINGS) and opened.locator("#published").is_disabled()
    assert "FID" in opened.locator("#chart .ytitle").text_content()
    opened.locator("#legend button", has_text=re.compile("lonkr")).click()
    assert points(opened).count() == len(SETTINGS) - 1
    opened.uncheck("#log")
    assert opened.evaluate("document.getElementById('chart').layout.yaxis.type") == "linear"


def colours(page):
    """Fill of the page, of the axis' texts and of a point."""
    looks = {"body": "backgroundColor", "#chart .xtick text": "fill", "#chart .point": "fill"}
    script = "([place, property]) => getComputedStyle(document.querySelector(place))[property]"
    return [page.evaluate(script, list(look)) for look in looks.items()]


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_dark_by_switch_and_by_the_systems_wish(opened, browser, page_file):
    light = colours(opened)
    opened.click("#theme")
    opened.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    dark = colours(opened)
    assert all(a != b for a, b in zip(light, dark, strict=True))
    assert brightness(light[0]) > 200 > 60 > brightness(dark[0]) and brightness(
        light[1]
    ) < 60 < 200 < brightness(dark[1])
    wished = visit(browser, page_file, color_scheme="dark")
    assert colours(wished.page) == dark and wished.thrown == []
    wished.page.context.close()


def test_a_phone_needs_no_sideways_scrolling(browser, page_file):
    seen = visit(browser, page_file, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    width = "[document.documentElement.scrollWidth, document.body.scrollWidth]"
    assert max(seen.page.evaluate(width)) <= 390
    seen.page.locator("#table tbody tr").first.click()
    seen.page.locator("#panel").wait_for()
    assert seen.page.locator("#panel").evaluate("e => e.scrollWidth <= e.clientWidth")
    assert max(seen.page.evaluate(width)) <= 390
    assert float(seen.page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")) >= 16
    assert (seen.said, seen.thrown, seen.asked) == ([], [], [])
    seen.page.context.close()


@pytest.fixture(scope="module")
def nasty_file(tmp_path_factory):
    """Runs, sweeps, data and errors called by names that would be HTML, script or a template if they could."""
    root = tmp_path_factory.mktemp("nasty")
    data = write_data(root / "<img src=x onerror=alert(2)>.npz")
    for number, name in enumerate(NASTY):
        record = make_record(f"r{number}", 10 ** (number + 1), 1.0 + number, notes=(name,))
        write_run(
            root / f"<i>r{number}",
            data,
            setting=name,
            record=record,
            adapter={"targets": [f"to_q{name[:3]}"]},
        )
    (root / "<i>r0" / "adapter" / "adapter_config.json").unlink()
    (root / "<i>r0" / "adapter").rmdir()
    out = root / "page.html"
    write_report([root], Options(out, title="</title><script>alert(3)</script>"))
    return out


def test_names_are_shown_and_never_run(browser, nasty_file):
    seen = visit(browser, nasty_file)
    page = seen.page
    assert sorted(rows(page)) == sorted(NASTY)
    assert page.title() == page.locator("h1").inner_text() == "</title><script>alert(3)</script>"
    assert (
        page.locator("script:not([type])").count() == 2
        and page.locator("#table img, #best img, #table b").count() == 0
    )
    for place, name in enumerate(NASTY[1:]):
        page.mouse.move(5, 5)
        page.mouse.move(*centre(points(page).nth(place)))
        page.locator("#chart .hoverlayer .hovertext").wait_for()
        page.wait_for_timeout(100)
        assert page.locator("#chart .hoverlayer .hovertext").text_content().startswith(name)
    for place, name in enumerate(rows(page)):
        page.locator("#table tbody tr").nth(place).press("Enter")
        assert page.locator("#panel-title").inner_text() == name
        assert (
            "<i>r" in page.locator("#command").inner_text()
            and page.locator("#panel b, #panel i").count() == 0
        )
        page.keyboard.press("Escape")
    assert all(name in page.locator("#about").text_content() for name in NASTY[1:])
    assert (seen.said, seen.thrown, seen.asked) == ([], [], [])
    page.context.close()


def test_the_policy_stops_what_would_get_in(browser, page_file, tmp_path):
    """If a name did become HTML, it would still not run, nor ask the network for a thing."""
    broken = tmp_path / "broken.html"
    inserted = (
        "<img src=http://localhost/x onerror=document.title='run'><script>document.title='run'</script><main>"
    )
    broken.write_text(page_file.read_text(encoding="utf-8").replace("<main>", inserted), encoding="utf-8")
    seen = visit(browser, broken)
    assert seen.page.title() != "run" and points(seen.page).count() == len(SETTINGS)
    assert any("Content Security Policy" in text for text in seen.said) and seen.asked == []
    seen.page.context.close()


def test_two_protocols_are_chosen_from(browser, tmp_path):
    data = write_data(tmp_path / "d.npz")
    for name, n in (("a", 1000), ("b", 1000), ("c", 77)):
        write_run(tmp_path / name, data, losses=False, record=make_record(name, 10 * len(name), 1.0, n=n))
    write_report([tmp_path], Options(tmp_path / "p.html"))
    seen = visit(browser, tmp_path / "p.html")
    assert points(seen.page).count() == 2 and "N 1,000" in seen.page.locator("#caption").inner_text()
    seen.page.select_option("#view", "1")
    assert points(seen.page).count() == 1 and "N 77" in seen.page.locator("#caption").inner_text()
    assert seen.page.locator("#table small").all_inner_texts() == ["scored in another way"] * 2
    assert (seen.said, seen.thrown, seen.asked) == ([], [], [])
    seen.page.context.close()


def test_a_page_without_any_value_still_lists_its_runs(browser, tmp_path):
    write_run(tmp_path / "a", write_data(tmp_path / "d.npz"), losses=False, finished=False, grid=False)
    write_report([tmp_path], Options(tmp_path / "p.html"))
    seen = visit(browser, tmp_path / "p.html")
    assert rows(seen.page) == ["a"]
    seen.page.locator("#table tbody tr").click()
    assert (
        "No samples" in seen.page.locator("#grid-problem").inner_text()
        and not seen.page.locator("#grid").is_visible()
    )
    assert (seen.said, seen.thrown, seen.asked) == ([], [], [])
    seen.page.context.close()
