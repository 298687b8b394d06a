"""The published points are those whose counts the adapters are tested against."""

from superlora_diffusion.report.published import PUBLISHED

# Design, section 2: (IS distance, parameters), row by row.
ROWS = {
    (0.0325, 75_776), (0.0305, 70_720), (0.0263, 73_728), (0.0294, 10_752), (0.0273, 8_512), (0.0272, 8_160),
    (0.0360, 11_100), (0.0360, 5_112), (0.0471, 1_080), (0.0565, 1_060), (0.0607, 832), (0.1131, 76), (0.0871, 31),
}  # fmt: skip


def test_thirteen_rows():
    assert len(PUBLISHED) == 13 and {(p.is_distance, p.parameters) for p in PUBLISHED} == ROWS
