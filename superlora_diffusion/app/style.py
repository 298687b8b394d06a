"""Looks and the little script of the page. Nothing in it is loaded from anywhere."""

from __future__ import annotations

CSS = """
footer { display: none !important; }
/* Under the label and the buttons, not behind them. */
#base-picture .image-container, #adapted-picture .image-container { padding-top: 38px; }
#gallery .grid-container { padding-top: 38px; }
#gallery .grid-wrap { height: auto; min-height: 0; max-height: none; }
#gallery .thumbnail-lg { aspect-ratio: auto; height: auto; padding-bottom: 30px; }
#gallery .thumbnail-lg img { height: auto; }
#gallery .caption-label { left: 4px; right: auto; max-width: calc(100% - 8px); }
#first textarea, #second textarea, #sweep-folder textarea { font-family: var(--font-mono); font-size: 0.85em; }
#front svg.front { width: 100%; max-width: 760px; height: auto; display: block; margin: 0 auto; }
#front svg text { font: 12px var(--font); fill: var(--body-text-color); }
#front .grid { stroke: var(--border-color-primary); stroke-width: 1; }
#front .base { stroke: var(--body-text-color-subdued); stroke-width: 1.5; stroke-dasharray: 6 4; }
#front .stair { fill: none; stroke: var(--body-text-color-subdued); stroke-width: 2; opacity: 0.6; }
#front .point { cursor: pointer; outline: none; }
#front .reach { fill: transparent; }
#front .mark { fill: var(--light); stroke: var(--light); stroke-width: 2; }
#front .open .mark { fill: var(--background-fill-primary); }
#front .point:hover .reach, #front .point:focus-visible .reach { fill: var(--light); opacity: 0.25; }
#front .chosen .reach { stroke: var(--light); stroke-width: 2.5; }
#front .legend { display: flex; flex-wrap: wrap; gap: 4px 16px; justify-content: center; font-size: 0.85em; }
#front .legend b { color: var(--light); }
.dark #front .mark { fill: var(--dark); stroke: var(--dark); }
.dark #front .open .mark { fill: var(--background-fill-primary); }
.dark #front .point:hover .reach, .dark #front .point:focus-visible .reach { fill: var(--dark); }
.dark #front .chosen .reach { stroke: var(--dark); }
.dark #front .legend b { color: var(--dark); }
@media (max-width: 640px) {  /* the picture shrinks: its text and what a finger has to hit do not */
  #front svg text { font-size: 19px; }
  #front .reach { r: 26px; }
  #front .mark { transform: scale(1.7); transform-box: fill-box; transform-origin: center; }
}
/* What went wrong is told in the corner; the line it stands on stays readable. */
#summary .error, #summary .clear-status { display: none; }
#sweep-note { font-size: 0.85em; color: var(--body-text-color-subdued); }
"""

# A click, or Enter or space on a point that has the focus. The listeners stay on the element around the picture, which
# is drawn anew.
PICK = """
const pick = (event) => {
  const point = event.target.closest("[data-point]");
  if (!point) return;
  event.preventDefault();
  trigger("pick", {point: Number(point.dataset.point)});
};
element.addEventListener("click", pick);
element.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") pick(event);
});
"""

SCROLL = (
    """() => { document.getElementById("pictures").scrollIntoView({behavior: "smooth", block: "start"}); }"""
)
