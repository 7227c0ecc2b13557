// A scatter plot in SVG with hover text and a point that can be chosen; nothing fetched, works offline.
//
// points: { x, y, id, text, colour, marker, hollow }; markers as in shapelab.show.style. A click sets `selected`.

const NS = "http://www.w3.org/2000/svg";
const SHAPES = {
  circle: "M5,0A5,5 0 1,1 -5,0A5,5 0 1,1 5,0Z", square: "M-4.4,-4.4H4.4V4.4H-4.4Z",
  "triangle-up": "M0,-5.6L5.2,4.2H-5.2Z", "triangle-down": "M0,5.6L5.2,-4.2H-5.2Z", diamond: "M0,-6L5,0L0,6L-5,0Z",
  cross: "M-1.8,-5.4H1.8V-1.8H5.4V1.8H1.8V5.4H-1.8V1.8H-5.4V-1.8H-1.8Z",
  x: "M-5,-3L-3,-5L0,-2L3,-5L5,-3L2,0L5,3L3,5L0,2L-3,5L-5,3L-2,0Z",
  hexagon: "M-2.7,-4.7H2.7L5.4,0L2.7,4.7H-2.7L-5.4,0Z",
  star: "M0,-6L1.5,-2L5.7,-1.9L2.4,0.8L3.5,4.9L0,2.5L-3.5,4.9L-2.4,0.8L-5.7,-1.9L-1.5,-2Z",
};
const LEFT = 52, BOTTOM = 40, TOP = 8, RIGHT = 10;

function svg(parent, tag, attributes, text) {
  const made = document.createElementNS(NS, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}

function ticks(low, high) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(Number((k * step).toPrecision(6)));
  return found;
}

function render({ model, el }) {
  el.classList.add("shapelab-scatter");
  const width = model.get("width"), height = model.get("height");
  const root = svg(el, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
                                "aria-label": model.get("caption") });
  const tip = document.createElement("div");
  tip.className = "shapelab-tip";
  tip.hidden = true;
  el.appendChild(tip);
  const legend = document.createElement("div");
  legend.className = "shapelab-legend";
  el.appendChild(legend);
  let drawn = new Map(), ring = null;

  function look(point) {
    return point.hollow ? { fill: "white", stroke: point.colour, "stroke-width": 1.6 }
      : { fill: point.colour, stroke: "white", "stroke-width": 0.6 };
  }

  function choose() {
    const path = drawn.get(model.get("selected"));
    ring?.remove();
    ring = path ? svg(root, "circle", { r: 9, fill: "none", stroke: "#222", "stroke-width": 2,
                                        transform: path.getAttribute("transform"), "pointer-events": "none" }) : null;
    el.dataset.selected = path ? model.get("selected") : "";
  }

  function draw() {
    root.replaceChildren();
    legend.replaceChildren();
    drawn = new Map();
    const points = model.get("points");
    const range = (key) => {
      const values = points.map((p) => p[key]), low = Math.min(...values), high = Math.max(...values);
      const pad = 0.06 * (high - low) || 1;
      return [low - pad, high + pad];
    };
    const [x0, x1] = range("x"), [y0, y1] = range("y");
    const px = (x) => LEFT + (x - x0) / (x1 - x0) * (width - LEFT - RIGHT);
    const py = (y) => height - BOTTOM - (y - y0) / (y1 - y0) * (height - BOTTOM - TOP);
    const note = { "font-size": 11, fill: "#666" };
    for (const v of ticks(x0, x1)) {
      svg(root, "line", { x1: px(v), x2: px(v), y1: TOP, y2: height - BOTTOM, stroke: "#ddd" });
      svg(root, "text", { x: px(v), y: height - BOTTOM + 14, "text-anchor": "middle", ...note }, v);
    }
    for (const v of ticks(y0, y1)) {
      svg(root, "line", { x1: LEFT, x2: width - RIGHT, y1: py(v), y2: py(v), stroke: "#ddd" });
      svg(root, "text", { x: LEFT - 6, y: py(v) + 4, "text-anchor": "end", ...note }, v);
    }
    const [xTitle, yTitle] = model.get("titles");
    svg(root, "text", { x: (LEFT + width) / 2, y: height - 6, "text-anchor": "middle", "font-size": 12 }, xTitle);
    svg(root, "text", { transform: `translate(13 ${(height - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle",
                        "font-size": 12 }, yTitle);
    for (const point of points) {
      const path = svg(root, "path", { d: SHAPES[point.marker] || SHAPES.circle, class: "shapelab-point", "data-id": point.id,
        transform: `translate(${px(point.x).toFixed(1)} ${py(point.y).toFixed(1)})`, ...look(point) });
      path.addEventListener("pointerenter", () => {
        tip.textContent = point.text;
        tip.hidden = false;
        tip.style.left = `${Math.min(px(point.x) + 12, width - 150)}px`;
        tip.style.top = `${py(point.y) + 12}px`;
      });
      path.addEventListener("pointerleave", () => { tip.hidden = true; });
      path.addEventListener("click", () => { model.set("selected", point.id); model.save_changes(); });
      drawn.set(point.id, path);
    }
    for (const entry of model.get("legend")) {
      const span = document.createElement("span");
      const small = svg(span, "svg", { width: 14, height: 14, viewBox: "-7 -7 14 14" });
      svg(small, "path", { d: SHAPES[entry.marker] || SHAPES.circle, ...look(entry) });
      span.append(entry.name);
      legend.appendChild(span);
    }
    el.dataset.points = String(points.length);
    choose();
  }

  model.on("change:points", draw);
  model.on("change:selected", choose);
  draw();
  return () => { model.off("change:points", draw); model.off("change:selected", choose); };
}

export default { render };
