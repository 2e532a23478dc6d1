"""Pages as a browser lays them out: what overflows or leaves the page, letters too small or pale, links to nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
# Name to width, dark, printed. A4 less margins of 14 mm is 688 px wide.
VIEWS = {"wide": (1200, False, False), "phone": (400, False, False), "dark": (1200, True, False),
         "phone dark": (400, True, False), "paper": (688, False, True)}  # fmt: skip

# A chart's letters may reach over its edge by what fonts differ in; the measure is the box of the element.
# A letter's contrast is WCAG's, with what is painted under its middle: a shape of the chart, or the figure around it.
MEASURE = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const light = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((one) => one / 255)
      .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (text, line) => {
    const under = document.elementsFromPoint((line.left + line.right) / 2, (line.top + line.bottom) / 2);
    const shape = under.find((one) => one.closest("svg") && !one.closest("text, defs") && one.tagName !== "svg"
      && getComputedStyle(one).fill !== "none");
    if (shape?.tagName === "image") return 21;
    const ground = shape ? getComputedStyle(shape).fill : getComputedStyle(text.closest("figure")).backgroundColor;
    const [one, other] = [light(getComputedStyle(text).fill), light(ground)];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  };
  for (const each of document.querySelectorAll("details")) each.open = true;
  const page = document.documentElement, found = [];
  if (page.scrollWidth > page.clientWidth)
    found.push(`the page is ${page.scrollWidth} px wide, of ${page.clientWidth}`);
  const name = (one) => `<${one.tagName.toLowerCase()} class="${one.getAttribute("class") ?? ""}"> `
    + `"${(one.textContent ?? "").trim().replace(/\\s+/g, " ").slice(0, 60)}"`;
  for (const one of document.body.querySelectorAll("*")) {
    const box = one.getBoundingClientRect();
    if (box.width === 0 || one.closest("svg") && one.tagName !== "svg") continue;
    if (box.right > page.clientWidth + 1 || box.left < -1) found.push(`${name(one)} leaves the page`);
    const around = one.parentElement.getBoundingClientRect();
    if (one.parentElement !== document.body && around.width && box.right > around.right + 1
        && getComputedStyle(one.parentElement).display !== "inline")
      found.push(`${name(one)} is wider than ${name(one.parentElement)}`);
    if (one.scrollWidth > one.clientWidth + 1 && one.clientWidth && getComputedStyle(one).display !== "inline")
      found.push(`${name(one)} holds ${one.scrollWidth} px in ${one.clientWidth}`);
  }
  for (const one of document.querySelectorAll("svg")) {
    const box = one.getBoundingClientRect();
    for (const text of one.querySelectorAll("text")) {
      const line = text.getBoundingClientRect();
      if (line.left < box.left - 2 || line.right > box.right + 2 || line.top < box.top - 2
          || line.bottom > box.bottom + 2)
        found.push(`${name(text)} leaves its chart`);
      const {a, b} = text.getScreenCTM();
      const size = parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b);
      if (size < 10.9) found.push(`${name(text)} has letters of ${size.toFixed(1)} px`);
      const ratio = contrast(text, line);
      if (ratio < 4.5) found.push(`${name(text)} has a contrast of ${ratio.toFixed(1)}`);
    }
  }
  return found;
}"""


@contextmanager
def browser() -> Iterator[Any]:
    """The system's Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engines:
        chromium = engines.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def measured(chromium: Any, path: Path, view: str, photograph: Path | None = None) -> list[str]:
    """What is wrong with a page in one of `VIEWS`: boxes, and links to files or places that are not there."""
    width, dark, printed = VIEWS[view]
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    page.emulate_media(media="print" if printed else "screen", color_scheme="dark" if dark else "light")
    page.goto(path.as_uri())
    page.set_viewport_size({"width": width, "height": page.evaluate("document.documentElement.scrollHeight")})
    if photograph is not None:
        page.screenshot(path=str(photograph), full_page=True)
    found = [str(problem) for problem in page.evaluate(MEASURE)]
    for link in page.eval_on_selector_all("a[href]", "links => links.map(one => one.href)"):
        place, _, anchor = str(link).partition("#")
        target = Path(page.evaluate("address => decodeURIComponent(new URL(address).pathname)", place))
        if not target.is_file() or (anchor and f'id="{anchor}"' not in target.read_text(encoding="utf-8")):
            found.append(f"{link} leads nowhere")
    page.close()
    return found
