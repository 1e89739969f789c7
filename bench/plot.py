"""The plot of the page: one group of bars for each operation, as SVG without scripts or fonts of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLUMNS, WIDTH, MARGIN = 2, 420, 20
BAR, GAP, TITLE, FOOT = 16, 4, 30, 16
NAMES, VALUES = 52, 140  # room for the runtimes' names and the times
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 14px }
.value, .note { fill: #57606a; font-size: 12px }
.floor { fill: #afb8c1 } .pyoci { fill: #0969da } .crun { fill: #bc6c25 } .runc { fill: #6e7781 } .youki { fill: #8250df }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.value, .note { fill: #9198a1 }
.floor { fill: #656c76 } .pyoci { fill: #4493f8 } .crun { fill: #d29a5b } .runc { fill: #8b949e } .youki { fill: #ab7df8 }
}
"""


@dataclass(frozen=True)
class Group:
    """The milliseconds of each runtime for one operation."""

    title: str
    times: dict[str, float]


def draw(heading: str, groups: Sequence[Group]) -> str:
    """Within a group, the length of a bar is proportional to the time. Each group has a scale of its own.

    The label of pyoci's bar compares it with crun's.
    """
    height = TITLE + max(len(group.times) for group in groups) * (BAR + GAP) + FOOT
    rows = -(-len(groups) // COLUMNS)
    across, down = COLUMNS * WIDTH + (COLUMNS + 1) * MARGIN, rows * height + 3 * MARGIN
    size = f'viewBox="0 0 {across} {down}" width="{across}" height="{down}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(heading)}</title>",
        f"<style>{STYLE}</style>",
        _text(MARGIN, MARGIN + 8, heading, "note"),
    ]
    for number, group in enumerate(groups):
        row, column = divmod(number, COLUMNS)
        parts += _group(group, MARGIN + column * (WIDTH + MARGIN), 2 * MARGIN + row * height)
    return "\n".join([*parts, "</svg>", ""])


def _group(group: Group, left: int, top: int) -> list[str]:
    scale = (WIDTH - NAMES - VALUES) / max(group.times.values())
    parts = [_text(left, top + 18, group.title, "title")]
    for number, (name, time) in enumerate(group.times.items()):
        y = top + TITLE + number * (BAR + GAP)
        width = max(1.0, time * scale)
        parts += [
            _text(left + NAMES - 8, y + 13, name, "", "end"),
            f'<rect class="{name}" x="{left + NAMES}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            _text(left + NAMES + width + 6, y + 13, _label(group, name), "value"),
        ]
    return parts


def _label(group: Group, name: str) -> str:
    text = milliseconds(group.times[name])
    if name == "pyoci" and "crun" in group.times:
        text += f", {group.times[name] / group.times['crun']:.2f} × crun"
    return text


def milliseconds(time: float) -> str:
    return f"{time:.1f} ms" if time >= 1 else f"{time:.2f} ms"


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
