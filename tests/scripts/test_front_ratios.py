"""The front: which ratios come out, by hand, and which settings the plot shows."""

from __future__ import annotations

import math

import pytest

from .front_sweeps import line


def setting(ratios, name, parameters, loss, distance, fid, seeds=(0, 1, 2), family="superlora"):
    means = {"val_loss": loss, "is_distance": distance, "fid": fid, "kid": None, "accuracy": None}
    return ratios.Setting(name, family, parameters, (0.02,), frozenset(seeds), means)


def test_no_worse_is_no_worse(ratios):
    reference = {"val_loss": 0.1, "is_distance": 1.0, "fid": 10.0}
    assert ratios.no_worse(reference, reference)
    assert ratios.no_worse({"val_loss": 0.09, "is_distance": 0.0, "fid": 10.0}, reference)
    for name in reference:
        worse = {**reference, name: math.nextafter(reference[name], math.inf)}
        assert ratios.failing(worse, reference, ratios.MEASURES) == (name,)
        assert not ratios.no_worse(worse, reference)
        others = [other for other in reference if other != name]
        assert ratios.no_worse(worse, reference, others)


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_known_never_passes(ratios, nothing):
    known = {"val_loss": 0.1, "is_distance": 1.0, "fid": 10.0}
    unknown = {**known, "fid": nothing}
    assert ratios.failing(unknown, known, ratios.MEASURES) == ("fid",)
    assert ratios.failing(known, unknown, ratios.MEASURES) == ("fid",)
    assert ratios.failing(unknown, unknown, ratios.MEASURES) == ("fid",)
    assert ratios.failing({}, known, ("val_loss",)) == ("val_loss",)


def test_the_smallest_that_is_no_worse(ratios):
    lora = ratios.reference_of(setting(ratios, "lora-r8", 1000, 0.1, 1.0, 10.0, family="lora"))
    ours = [
        setting(ratios, "big", 500, 0.09, 0.9, 9.0),
        setting(ratios, "tie", 50, 0.1, 1.0, 10.0),
        setting(ratios, "few-seeds", 40, 0.01, 0.1, 1.0, seeds=(0, 1)),
        setting(ratios, "loss-alone", 30, 0.05, 2.0, 11.0),
        setting(ratios, "nan", 20, 0.05, math.nan, 1.0),
        setting(ratios, "tiny", 10, 0.3, 3.0, 30.0),
    ]
    found = ratios.smallest_no_worse(ours, lora)
    assert found.name == "tie" and ratios.ratio(lora.parameters, found) == 20
    assert ratios.smallest_no_worse(ours, lora, ("val_loss",)).name == "nan"
    assert ratios.smallest_no_worse(ours, lora, ("is_distance",)).name == "tie"
    assert [(one.name, reasons) for one, reasons in ratios.next_smaller(ours, lora, found)] == [
        ("few-seeds", ("seeds 2 not run",)),
        ("loss-alone", ("is_distance", "fid")),
        ("nan", ("is_distance",)),
    ]
    assert ratios.smallest_no_worse(ours[3:], lora) is None and ratios.ratio(1000, None) is None
    assert [one.name for one, _ in ratios.next_smaller(ours[3:], lora, None)] == ["loss-alone", "nan", "tiny"]
    assert ratios.smallest_no_worse([], lora) is None


def test_of_equal_counts_less_loss_wins_and_then_the_name(ratios):
    lora = ratios.reference_of(setting(ratios, "lora-r8", 1000, 0.1, 1.0, 10.0))
    twins = [
        setting(ratios, name, 50, loss, 1.0, 1.0) for name, loss in [("c", 0.09), ("b", 0.08), ("a", 0.09)]
    ]
    assert ratios.smallest_no_worse(twins, lora).name == "b"
    assert ratios.smallest_no_worse([twins[0], twins[2]], lora).name == "a"
    assert ratios.ratio(1000, setting(ratios, "none", 0, 0.1, 1.0, 1.0)) is None


def test_what_is_left_to_reach_a_share_of_the_gain(ratios):
    dense = setting(ratios, "dense", 1000, 0.1, 1.0, 10.0)
    reference = ratios.gain_reference(dense, {"val_loss": 0.3, "is_distance": 5.0, "fid": 70.0})
    assert reference.values == pytest.approx({"val_loss": 0.11, "is_distance": 1.2, "fid": 13.0})
    assert reference.measures == ("val_loss", "fid") and reference.parameters == 1000
    near = setting(ratios, "near", 10, 0.105, 9.0, 13.0 - 1e-9)
    assert ratios.smallest_no_worse([near], reference) is near  # the IS distance is not judged
    unknown = ratios.gain_reference(dense, {"val_loss": 0.1, "is_distance": math.nan})
    assert unknown.values == {"val_loss": None, "is_distance": None, "fid": None}


def test_means_are_over_all_seeds_or_none(ratios):
    rows = [
        line("a", seed, loss=loss, kid=kid) for seed, loss, kid in [(0, 0.1, 1), (1, 0.2, None), (2, 0.6, 1)]
    ]
    rows += [line("b", 0, parameters=9) | {"lr": 0.5}]
    b, a = ratios.summarise([{**row, "family": "x"} for row in rows])
    assert (a.name, a.seeds, a.rates, b.rates) == ("a", {0, 1, 2}, (0.02,), (0.5,))
    assert a.means["val_loss"] == pytest.approx(0.3) and a.deviations["val_loss"] == pytest.approx(0.07**0.5)
    assert a.means["kid"] is None and a.deviations["kid"] is None
    assert b.means["val_loss"] == 0.2 and b.deviations["val_loss"] is None


def test_lines_and_labels_of_the_plot(ratios):
    from front.draw import draw_front, line_of

    made = [
        setting(ratios, "lora-r8", 800, 0.2, 2.0, 3.0, family="lora"),
        setting(ratios, "lora-r1", 100, 0.1, 3.0, 4.0, family="lora"),
        setting(ratios, "small", 10, 0.3, None, 5.0),
        setting(ratios, "dominated", 20, 0.4, 2.0, 6.0),
        setting(ratios, "big", 90, 0.1, 1.0, 1.0),
        setting(ratios, "norms", 50, 0.2, 1.0, 2.0, family="baseline"),
    ]
    assert [one.name for one in line_of(made, "lora", "val_loss")] == ["lora-r1", "lora-r8"]
    assert [one.name for one in line_of(made, "superlora", "val_loss")] == ["small", "big"]
    assert [one.name for one in line_of(made, "superlora", "is_distance")] == ["dominated", "big"]
    assert line_of(made, "baseline", "val_loss") == []
    figure = draw_front(made, {"fid": 70.0}, "caption")
    loss, distance, fid = figure.axes
    assert [axes.get_xscale() for axes in figure.axes] == ["log"] * 3
    assert "base 70" in fid.get_title() and "base" not in loss.get_title()
    labels = [text.get_text() for text in loss.texts]
    assert "norms\n50" in labels and "big\n90" in labels and not any("dominated" in label for label in labels)
    lines = {one.get_gid(): one.get_xdata().tolist() for one in distance.lines if one.get_gid()}
    assert lines["line-superlora"] == [20, 90] and lines["line-lora"] == [100, 800]


def test_the_best_of_ours(ratios):
    from front.page import best_of_ours
    from make_front import picture_names

    lora = setting(ratios, "lora-r8", 800, 0.2, 2.0, 3.0, family="lora")
    ours = [setting(ratios, "a", 50, 0.2, 2.0, 3.0), setting(ratios, "b", 99, 0.1, 9.0, 1.0)]
    assert best_of_ours([lora, *ours]) == "a" and best_of_ours(ours) == "b" and best_of_ours([lora]) is None
    assert picture_names("auto", [lora, *ours]) == ["lora-r8", "a"]
    assert picture_names("auto", [lora]) == ["lora-r8"] and picture_names("x, y", []) == ["x", "y"]
