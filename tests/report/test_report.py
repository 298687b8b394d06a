"""All formats of one call, and what is refused."""

import csv
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from superlora_diffusion.cli.main import app
from superlora_diffusion.errors import ConfigError
from superlora_diffusion.evaluation.chart import front_of
from superlora_diffusion.report.collect import collect
from superlora_diffusion.report.compare import make_views
from superlora_diffusion.report.metrics import BY_KEY
from superlora_diffusion.report.report import Options, beside, read_formats, write_report
from superlora_diffusion.report.static import static_chart

from .material import SEEDS, SETTINGS, make_record, write_data, write_run
from .test_charts import FRONT


def call(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_every_format_is_written_beside_the_page(sweep, tmp_path):
    out = tmp_path / "deep" / "front.html"
    result = call(sweep, "--out", out, "--format", "html,png,svg,pdf,csv,latex", "--json", "--score", "fid")
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    endings = [Path(file["path"]).suffix for file in written["files"]]
    assert endings == [".html", ".png", ".svg", ".pdf", ".csv", ".tex"]
    assert all(Path(file["path"]).stat().st_size == file["bytes"] for file in written["files"])
    assert (written["runs"], written["settings"], written["score"]) == (18, len(SETTINGS), "fid")
    assert [point["setting"] for point in written["front"]] == FRONT
    assert {item["why"] for item in written["left_out"]} == {"not finished", "no scores"}
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.format == "PNG" and picture.width > 1000
    texts = [node.text for node in ElementTree.parse(out.with_suffix(".svg")).iter() if node.text]
    assert any(text.startswith("FID") for text in texts) and "lorta-r8" in texts and "Pareto front" in texts
    pdf = out.with_suffix(".pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF")
    rows = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
    assert len(rows) == len(SETTINGS) * len(SEEDS) + 2
    assert out.with_suffix(".tex").read_text().count(r"\\") == len(SETTINGS) + 2
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(
        f"front{ending}" for ending in endings
    )


def test_the_static_chart_has_the_runs_values(sweep):
    view = make_views(collect([sweep]))[0]
    chart = static_chart(view, BY_KEY["is_distance"], "t", published=True)
    assert {p.name: (p.parameters, round(p.score, 9)) for p in chart.points} == {
        name: (count, round(distance + 0.01, 9)) for name, (_, count, distance) in SETTINGS.items()
    }
    assert [point.name for point in front_of(chart)] == FRONT and len(chart.others) == 13
    assert chart.bases == [("tiny-base", 4.9)] and chart.log_score and "N 1,000" in chart.caption
    assert not static_chart(view, BY_KEY["fid"], "t", published=True).others
    assert static_chart(view, BY_KEY["accuracy"], "t").higher_is_better


def test_what_is_printed_names_what_has_no_score(sweep, tmp_path):
    result = call(sweep, "--out", tmp_path / "t.csv")
    assert result.exit_code == 0 and (tmp_path / "t.csv").is_file()
    assert "8 settings of 18 runs" in result.stdout
    assert "broken-off: not finished" in result.stderr and "unscored: no scores" in result.stderr


def test_formats_by_name_or_by_ending():
    assert read_formats(None, Path("a.tex")) == ("latex",) and read_formats("png, html,png", Path("x")) == (
        "png",
        "html",
    )
    with pytest.raises(ConfigError, match=r"got 'jpg'.*Accepted: html, png, svg, pdf, csv, latex"):
        read_formats("html,jpg", Path("x"))
    with pytest.raises(ConfigError, match=r"a\.txt: its ending says no format"):
        read_formats(None, Path("a.txt"))
    assert beside(Path("d/a.html"), "latex") == Path("d/a.tex") and beside(Path("v1.2"), "png") == Path(
        "v1.2.png"
    )


def test_wrong_scores_and_places_are_told_without_a_trace(sweep, tmp_path):
    for words, text in (
        ((sweep, "--score", "fdi"), "--score: got 'fdi'. Did you mean 'fid'?"),
        ((sweep, "--score", "kid"), "no run has kid; found: is_distance, fid, accuracy, is_mean, val_loss"),
        ((tmp_path / "none",), "is no folder"),
        ((tmp_path,), "holds no run"),
    ):
        result = call(*words, "--out", tmp_path / "page.html")
        assert result.exit_code in (1, 2) and text in result.stderr and not (tmp_path / "page.html").exists()


def test_runs_without_any_score_or_loss_have_a_page_and_no_plot(tmp_path):
    write_run(tmp_path / "a", write_data(tmp_path / "d.npz"), losses=False)
    result = call(tmp_path, "--out", tmp_path / "p.png")
    assert result.exit_code == 1 and "nothing to draw" in result.stderr
    assert call(tmp_path, "--out", tmp_path / "p.html").exit_code == 0 and (tmp_path / "p.html").is_file()


def test_several_protocols_are_told(tmp_path):
    data = write_data(tmp_path / "d.npz")
    write_run(tmp_path / "a", data, record=make_record("a", 5, 1.0))
    write_run(tmp_path / "b", data, record=make_record("b", 9, 1.0, n=77))
    result = call(tmp_path, "--out", tmp_path / "p.svg")
    assert result.exit_code == 0 and "several ways" in result.stdout and "N 77" in result.stdout
    assert "b: scored in another way" in result.stderr


def test_sixty_runs_stay_under_ten_megabytes(tmp_path):
    import numpy as np

    data = write_data(tmp_path / "d.npz")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 160, 3), dtype=np.uint8).repeat(3, 0).repeat(3, 1)
    for number in range(60):  # noise packs worse than any sample
        folder = tmp_path / "runs" / f"r{number}"
        write_run(folder, data, record=make_record(f"r{number}", 10 + number, 1.0))
        Image.fromarray(pixels).save(folder / "samples" / "step-000500.png", compress_level=0)
    (file,) = write_report([tmp_path / "runs"], Options(tmp_path / "page.html"))["files"]
    assert 4_000_000 < file["bytes"] < 10_000_000


def test_help_and_a_page_need_no_torch(sweep, tmp_path):
    code = (
        "import sys; from superlora_diffusion.report.report import Options, write_report; from pathlib import Path; "
        f"write_report([{str(sweep)!r}], Options(Path({str(tmp_path / 'p.html')!r}))); print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
