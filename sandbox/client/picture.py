"""Pictures with error bars; Chinese labels where the machine has a font for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO

_CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Droid Sans Fallback",
)
_PLAIN_FONT = "DejaVu Sans"
_CHINESE = re.compile(r"[\u2e80-\u9fff\uff00-\uffef]+")


@lru_cache(maxsize=1)
def chinese_font() -> str | None:
    """Return the name of an installed font that has Chinese, or None."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return next((name for name in _CHINESE_FONTS if name in installed), None)


def bar_picture(
    labels: Sequence[str],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    title: str,
    axis: str,
) -> bytes:
    """Return a PNG of horizontal bars with 95 % intervals, the longest on top.

    Args:
        labels: one a bar.
        values: the bars' lengths.
        low: the lower end of each interval.
        high: the upper end of each interval.
        title: over the picture.
        axis: what a length means, with its measure.
    """
    from matplotlib import rc_context

    font = chinese_font()
    if font is None:
        # Without a font for it, Chinese would come out as empty boxes, which say less than nothing.
        labels, title, axis = (
            [_without_chinese(label) for label in labels],
            _without_chinese(title),
            _without_chinese(axis),
        )
    with rc_context({"font.family": [_PLAIN_FONT] if font is None else [font, _PLAIN_FONT]}):
        return _draw(labels, values, low, high, title, axis)


def _draw(
    labels: Sequence[str],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    title: str,
    axis: str,
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = sorted(range(len(values)), key=lambda i: values[i])
    figure = Figure(figsize=(9, 0.34 * len(values) + 1.6), layout="constrained")
    axes = figure.add_subplot()
    below = [max(0.0, values[i] - low[i]) for i in order]
    above = [max(0.0, high[i] - values[i]) for i in order]
    axes.barh(
        range(len(order)),
        [values[i] for i in order],
        xerr=[below, above],
        color="#7fb3c8",
        edgecolor="#2c5f7c",
        error_kw={"ecolor": "#8c2d19", "capsize": 3, "lw": 1.4},
    )
    axes.set_yticks(range(len(order)), [labels[i] for i in order])
    axes.set_xlabel(f"{axis}, bars show the 95 % interval")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.01)
    FigureCanvasAgg(figure)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130, metadata={"Software": None})
    return picture.getvalue()


def _without_chinese(text: str) -> str:
    return " ".join(_CHINESE.sub(" ", text).replace("( ", "(").replace(" )", ")").split()).replace(" )", ")")
