"""Executed notebooks as web pages, and the one page that links them.

The pages need no network: images and styles are inside, and plotly's script lies once beside them. Equations are
typeset by MathJax where the browser reaches it and stand as TeX where it does not.
"""

from __future__ import annotations

import base64
import copy
import html
import io
import json
import re
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from shapelab import __version__
from shapelab.course import notebooks as tools
from shapelab.files import atomic_write, write_csv, write_json

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from shapelab.course.results import Result

THUMBNAIL_PIXELS = (360, 240)
PLOTLY_SCRIPT = "plotly.min.js"

# nbconvert's page without the scripts it would fetch (require.js and mermaid are not used here); MathJax is loaded
# in the background, so that a page opens at once where there is no network.
_TEMPLATE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js_requirejs -%}
{%- if resources.plotly_script %}<script src="{{ resources.plotly_script }}"></script>{% endif -%}
{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}
<script type="text/x-mathjax-config">
MathJax.Hub.Config({
  messageStyle: "none",
  tex2jax: {inlineMath: [["$", "$"], ["\\\\(", "\\\\)"]], processEscapes: true},
});
</script>
<script async src="{{ resources.mathjax_url }}"></script>
{%- endblock -%}
"""


def write_notebook_pages(notebook: NotebookNode, name: str, output: Path) -> None:
    """Write the executed copy of a notebook and its page under ``output/notebooks``."""
    folder = output / "notebooks"
    tools.write_notebook(notebook, folder / f"{name}.ipynb")
    text, has_plotly = page_of(notebook, name)
    if has_plotly:
        _write_plotly_script(folder)
    _write_text(folder / f"{name}.html", text)


def write_record(notebook: NotebookNode | None, result: Result, output: Path, profile: str) -> None:
    """Write what the index says of a notebook; `notebook` is None if it could not even be read."""
    name = result.path.stem
    content = {
        "name": name,
        "title": (notebook and title_of(notebook)) or name,
        "passed": result.failure is None,
        "failure": str(result.failure or ""),
        "seconds": round(result.seconds, 1),
        "profile": profile,
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "thumbnail": thumbnail_of(notebook) if notebook else "",
    }
    write_json(content, output / "notebooks" / f"{name}.json")


def page_of(notebook: NotebookNode, name: str) -> tuple[str, bool]:
    """The notebook as HTML, and whether the page needs plotly's script beside it."""
    from nbconvert import HTMLExporter

    notebook = copy.deepcopy(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    drawn = [output for output in outputs if tools.PLOTLY in output.get("data", {})]
    for output in drawn:
        output["data"] = {"text/html": _plotly_html(output["data"][tools.PLOTLY])}
    extra = {"metadata": {"name": name}} | ({"plotly_script": PLOTLY_SCRIPT} if drawn else {})
    return HTMLExporter(raw_template=_TEMPLATE).from_notebook_node(notebook, resources=extra)[0], bool(drawn)


def _plotly_html(figure: dict) -> str:
    from plotly.io import to_html

    # no validation: it was a valid figure when it was shown, and its arrays are base64 by now
    figure = {key: value for key, value in figure.items() if key in ("data", "layout", "frames")}
    return to_html(figure, full_html=False, include_plotlyjs=False, include_mathjax=False, validate=False)


def _write_plotly_script(folder: Path) -> None:
    """Put the installed plotly's script beside the pages, if that very one is not there yet."""
    target = folder / PLOTLY_SCRIPT
    content = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    if not target.exists() or target.stat().st_size != len(content):
        with atomic_write(target) as temporary:
            temporary.write_bytes(content)


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def title_of(notebook: NotebookNode) -> str | None:
    """The first heading."""
    words = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^#+ *(.*)", words, re.MULTILINE)
    return heading and heading[1].strip()


def thumbnail_of(notebook: NotebookNode) -> str:
    """The first picture of a notebook, small, as base64 PNG; empty if it has none."""
    from PIL import Image

    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    encoded = next((data["image/png"] for data in shown if data.get("image/png")), None)
    if encoded is None:
        return ""
    picture, small = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"), io.BytesIO()
    picture.thumbnail(THUMBNAIL_PIXELS)
    picture.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


# ---------------------------------------------------------------------------------------------- the index


def write_index(output: Path) -> Path:
    """Write ``output/index.html`` from the records there: this run's, and those of earlier runs of other notebooks; and
    ``seconds.csv``, how long each took."""
    import pandas as pd

    cards, rows = [], []
    for path in sorted((output / "notebooks").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            cards.append(_card(record, has_page=path.with_suffix(".html").exists()))
        except (ValueError, KeyError, TypeError):
            continue  # not one of ours
        rows.append((record["name"], record["seconds"], "passed" if record["passed"] else "failed"))
    table = pd.DataFrame(rows, columns=["notebook", "seconds", "status"])
    write_csv(table, output / "seconds.csv")
    summary = f"{(table['status'] == 'passed').sum()} of {len(table)} notebooks passed"
    index = output / "index.html"
    _write_text(index, _INDEX.format(summary=summary, version=html.escape(__version__), cards="\n".join(cards)))
    return index


def _card(record: dict, has_page: bool) -> str:
    """One notebook on the index page."""
    name = html.escape(record["name"])
    picture = f'<img alt="" src="data:image/png;base64,{record["thumbnail"]}">' if record["thumbnail"] else ""
    head = f"{picture}<strong>{html.escape(record['title'])}</strong>"
    facts = f"{record['seconds']:.0f} s, profile {html.escape(record['profile'])}, {html.escape(record['when'])}"
    if has_page:
        head = f'<a href="notebooks/{name}.html">{head}</a>'
        facts += f' &middot; <a href="notebooks/{name}.ipynb">{name}.ipynb</a>'
    failed = f'<span class="failed">failed</span> <code>{html.escape(record["failure"])}</code>'
    status = '<span class="ok">passed</span>' if record["passed"] else failed
    return f'<li>{head}<p>{status}</p><p class="facts">{facts}</p></li>'


_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>shapelab notebooks</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --ok: #009e73; --failed: #d55e00; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }}
ul {{ list-style: none; padding: 0; display: grid; gap: 1rem;
      grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }}
li {{ border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; overflow-wrap: anywhere; }}
li p {{ margin: .4rem 0 0; }}
a {{ color: inherit; }}
li > a {{ text-decoration: none; display: block; }}
li > a:hover strong, li > a:focus strong {{ text-decoration: underline; }}
img {{ display: block; width: 100%; height: 11rem; object-fit: contain; background: #fff; margin-bottom: .6rem; }}
.ok {{ color: var(--ok); font-weight: 600; }} .failed {{ color: var(--failed); font-weight: 600; }}
.facts, footer {{ font-size: .85rem; opacity: .75; }}
</style>
</head>
<body>
<h1>shapelab notebooks</h1>
<p>{summary}.</p>
<ul>
{cards}
</ul>
<footer>shapelab {version}. Widgets need a running notebook: <code>make lab</code>, or
<code>shapelab course --copy DIR</code>.</footer>
</body>
</html>
"""
