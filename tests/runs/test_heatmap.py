"""The heat map: what is drawn where, in which colour, and whether it can be read."""

from __future__ import annotations

import pytest
from matplotlib.colors import LogNorm, Normalize
from PIL import Image

from superlora_diffusion.errors import SuperLoRAError
from superlora_diffusion.runs.heatmap import (
    HeatMap,
    choose_scale,
    draw_heat_map,
    save_heat_map,
    short,
    split_rows,
)

COLUMNS = ("to_q", "to_out.0")


def chart(count=5, columns=COLUMNS, name="down_blocks.{}.attentions.0", values=None):
    rows = tuple(name.format(index) for index in range(count))
    if values is None:
        values = {
            (row, column): 0.1 + y + x for y, row in enumerate(rows) for x, column in enumerate(columns)
        }
    return HeatMap("lora: mine", "||dW|| / ||W||", rows, tuple(columns), values)


def panels(figure):
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def cells(axes):
    """{(x, y): colour} and {(x, y): text} of a panel."""
    colours = {(patch.get_x() + 0.5, patch.get_y() + 0.5): patch.get_facecolor() for patch in axes.patches}
    return colours, {text.get_position(): text.get_text() for text in axes.texts}


def test_each_value_has_its_cell():
    made = chart(
        values={("down_blocks.0.attentions.0", "to_q"): 0.25, ("down_blocks.2.attentions.0", "to_out.0"): 2.0}
    )
    (axes,) = panels(draw_heat_map(made))
    colours, texts = cells(axes)
    assert len(colours) == 10 and texts == {(0, 0): "0.250", (1, 2): "2.00"}
    nothing = {place: colour for place, colour in colours.items() if place not in texts}
    assert len(set(nothing.values())) == 1 and len({*colours.values()}) == 3
    assert [label.get_text() for label in axes.get_xticklabels()] == list(COLUMNS)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(made.rows)
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first layer is at the top"


def test_the_largest_value_has_the_end_of_the_colours():
    (axes,) = panels(draw_heat_map(chart()))
    colours, _ = cells(axes)
    brightness = {place: sum(colour[:3]) for place, colour in colours.items()}
    assert max(brightness, key=brightness.get) == (1, 4) and min(brightness, key=brightness.get) == (0, 0)


def test_the_scale_is_logarithmic_where_one_value_outshines_all():
    plain, steep = choose_scale([0.0, 1.0, 2.0, 9.0]), choose_scale([0.1, 0.1, 0.2, 9.0])
    assert type(plain) is Normalize and (plain.vmin, plain.vmax) == (0, 9)
    assert isinstance(steep, LogNorm) and (steep.vmin, steep.vmax) == (0.1, 9)
    assert choose_scale([1e-9, 1.0, 1.0, 1.0, 50.0]).vmin == pytest.approx(5e-3), (
        "not below 1e-4 of the largest"
    )
    assert (choose_scale([]).vmax, choose_scale([0.0]).vmax) == (1, 1)
    assert draw_heat_map(chart(values={})), "a fresh adapter and a damaged one can be drawn, too"


def test_many_layers_stand_in_panels():
    rows = [str(number) for number in range(150)]
    parts = split_rows(rows, 5.0)
    assert len(parts) > 1 and [row for part in parts for row in part] == rows
    assert max(map(len, parts)) - min(map(len, parts)) < len(parts)
    assert split_rows(rows[:36], 5.0) == [rows[:36]]
    figure = draw_heat_map(chart(150, name="down_blocks.{}.attentions.0.transformer_blocks.0.attn1"))
    width, height = figure.get_size_inches()
    assert 0.7 < width / height < 3
    drawn = [label.get_text() for axes in panels(figure) for label in axes.get_yticklabels()]
    assert len(drawn) == 150 and len(set(drawn)) == 150


@pytest.mark.parametrize("count", [1, 9, 150])
@pytest.mark.parametrize(
    "columns", [("to_q",), COLUMNS, ("time_embedding.linear_1", "ff.net.0.proj", "to_q")]
)
def test_labels_lie_within_the_picture_and_do_not_touch(count, columns):
    figure = draw_heat_map(chart(count, columns, "down_blocks.{}.attentions.0.transformer_blocks.0.attn1"))
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    boxes = []
    for axes in panels(figure):
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts]
        boxes += [label.get_window_extent() for label in labels if label.get_text()]
    assert len(boxes) >= count * (1 + len(columns))
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_a_layer_at_the_top_has_a_label():
    (axes,) = panels(draw_heat_map(HeatMap("mine", "x", ("",), ("conv_in",), {("", "conv_in"): 1.0})))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["(top)"]


def test_letters_can_be_read_on_their_cell():
    (axes,) = panels(draw_heat_map(chart()))
    colours, _ = cells(axes)
    for text in axes.texts:
        brightness = sum(colours[text.get_position()][:3]) / 3
        assert text.get_color() == ("white" if brightness < 0.5 else "black") or 0.4 < brightness < 0.6


def test_short_numbers():
    said = {0: "0", 1: "1.00", 0.0123: "0.0123", 0.5: "0.500", 12.3: "12.3", 123.4: "123"}
    said |= {0.00123: "1.2e-3", 1.2e-5: "1.2e-5", 1234.5: "1.2e3", 23456.0: "2.3e4"}
    assert {value: short(value) for value in said} == said


def test_the_file_is_a_picture(tmp_path):
    save_heat_map(chart(), tmp_path / "made" / "heatmap.png")
    with Image.open(tmp_path / "made" / "heatmap.png") as picture:
        assert picture.format == "PNG" and picture.width > 600
        assert len(picture.convert("RGB").getcolors(picture.width * picture.height)) > 20
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["heatmap.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(SuperLoRAError, match=r"cannot be written"):
        save_heat_map(chart(), tmp_path / "file" / "heatmap.png")
