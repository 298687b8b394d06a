"""Families can be told apart."""

from superlora_diffusion.adapters.variants import VARIANTS
from superlora_diffusion.report.style import family_styles, is_ours

FAMILIES = [*VARIANTS, "intrinsic", "lorta+fastfood", "lora+shuffle", "full", "bitfit", "norms", "difffit"]
FAMILIES += [
    f"peft-{name}" for name in ("lora", "loha", "lokr", "vera", "fourierft", "ia3", "oft", "unilora")
]


def test_no_two_families_look_alike():
    styles = family_styles(FAMILIES)
    for theme in ("light", "dark"):
        assert len({(getattr(style, theme), style.symbol) for style in styles.values()}) == len(FAMILIES)
    assert len({(style.light, style.marker) for style in styles.values()}) == len(FAMILIES)


def test_ours_and_peers_differ_in_shape_and_ours_keep_their_colour():
    styles = family_styles(FAMILIES)
    assert all(
        style.symbol.endswith("-open") != is_ours(name) == style.ours for name, style in styles.items()
    )
    assert styles["lorta"].light == styles["lorta+fastfood"].light
    assert {name: styles[name] for name in VARIANTS} == family_styles(VARIANTS)
    assert list(styles)[: len(VARIANTS)] and all(
        style.ours for style in list(styles.values())[: len(VARIANTS) + 3]
    )


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_marks_stand_out_from_their_background():
    """Contrast of at least 3:1, which WCAG 2.1 asks of graphics."""
    for style in family_styles(FAMILIES).values():
        assert 1.05 / (luminance(style.light) + 0.05) >= 3
        assert (luminance(style.dark) + 0.05) / (luminance("#171c23") + 0.05) >= 3
