// Triangle meshes on a canvas, in WebGL 2 and nothing else: no library, nothing fetched, works offline.
//
// The kernel sends parts: { name, colour [r, g, b], opacity, vertices (Int16, units of `unit` mm), faces (Uint16 or
// Uint32) } in a right-handed frame whose third axis is up. Parallel projection, so that the scale bar is true.
// Drag or arrow keys turn, wheel or + and - zoom, double click or Home goes back.
// What is drawn can be read off the element (and is, by the tests): data-updates, data-triangles, data-checksum.

const VERTEX = `#version 300 es
in vec3 position; in vec3 normal;
uniform mat3 view; uniform vec3 centre; uniform vec3 scale; uniform float unit; uniform float grow;
out vec3 n;
void main() {
  n = view * normal;
  vec3 p = view * (position * unit + normal * grow - centre);      // right, away, up
  gl_Position = vec4(p.x * scale.x, p.z * scale.y, p.y * scale.z, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 n; uniform vec3 colour; uniform float opacity; out vec4 result;
void main() {
  vec3 m = normalize(n); if (m.y > 0.0) m = -m;
  float facing = max(-m.y, 0.0);
  vec3 light = normalize(vec3(-0.45, -0.72, 0.53));
  float shine = pow(max(dot(m, normalize(light + vec3(0.0, -1.0, 0.0))), 0.0), 24.0);
  float tone = (0.42 + 0.68 * max(dot(m, light), 0.0)) * (0.72 + 0.28 * sqrt(facing));
  float cover = opacity < 1.0 ? 0.75 * (opacity + (1.0 - opacity) * pow(1.0 - facing, 2.0)) : 1.0;
  result = vec4((colour * tone + 0.16 * shine) * cover, cover);
}`;

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(made, shader);
  }
  gl.bindAttribLocation(made, 0, "position");
  gl.bindAttribLocation(made, 1, "normal");
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
  return made;
}

// The bytes of a message, copied so that they start on a multiple of four.
const bytes = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);

function normals(vertices, faces) {
  const sums = new Float32Array(vertices.length);
  for (let f = 0; f < faces.length; f += 3) {
    const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
    const ux = vertices[b] - vertices[a], uy = vertices[b + 1] - vertices[a + 1], uz = vertices[b + 2] - vertices[a + 2];
    const vx = vertices[c] - vertices[a], vy = vertices[c + 1] - vertices[a + 1], vz = vertices[c + 2] - vertices[a + 2];
    const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
    for (const v of [a, b, c]) { sums[v] += nx; sums[v + 1] += ny; sums[v + 2] += nz; }
  }
  for (let v = 0; v < sums.length; v += 3) {
    const length = Math.hypot(sums[v], sums[v + 1], sums[v + 2]) || 1;
    sums[v] /= length; sums[v + 1] /= length; sums[v + 2] /= length;
  }
  return sums;
}

function upload(gl, part) {
  const vertices = new Int16Array(bytes(part.vertices));
  const faces = part.wide ? new Uint32Array(bytes(part.faces)) : new Uint16Array(bytes(part.faces));
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  const buffers = [vertices, normals(vertices, faces)].map((data, index) => {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(index);
    gl.vertexAttribPointer(index, 3, index === 0 ? gl.SHORT : gl.FLOAT, false, 0, 0);
    return buffer;
  });
  buffers.push(gl.createBuffer());
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers[2]);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
  gl.bindVertexArray(null);
  let checksum = faces.length;
  for (let i = 0; i < vertices.length; i++) checksum = (Math.imul(checksum, 31) + vertices[i]) >>> 0;
  return { array, buffers, checksum, count: faces.length, type: part.wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT,
           colour: part.colour, opacity: part.opacity };
}

function rotation(azimuth, elevation) {
  const a = azimuth * Math.PI / 180, e = elevation * Math.PI / 180;
  const right = [Math.cos(a), -Math.sin(a), 0];
  const away = [Math.sin(a) * Math.cos(e), Math.cos(a) * Math.cos(e), -Math.sin(e)];
  const up = [right[1] * away[2] - right[2] * away[1], right[2] * away[0] - right[0] * away[2],
              right[0] * away[1] - right[1] * away[0]];
  return new Float32Array([right[0], away[0], up[0], right[1], away[1], up[1], right[2], away[2], up[2]]);
}

function element(parent, tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  parent.appendChild(made);
  return made;
}

function render({ model, el }) {
  el.classList.add("shapelab-mesh");
  el.dataset.updates = "0";
  const caption = element(el, "div", "shapelab-caption");
  const frame = element(el, "div", "shapelab-frame");
  const canvas = element(frame, "canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  const bar = element(frame, "div", "shapelab-bar");
  const legend = element(el, "div", "shapelab-legend");
  frame.style.height = `${model.get("height")}px`;

  const gl = canvas.getContext("webgl2", { antialias: true, premultipliedAlpha: true, preserveDrawingBuffer: true });
  if (!gl) {
    frame.textContent = "This browser has no WebGL 2, so the mesh cannot be drawn here. The still picture in the " +
      "notebook shows the same shape.";
    el.dataset.failed = "no WebGL 2";
    return;
  }
  const shader = program(gl);
  const at = (name) => gl.getUniformLocation(shader, name);
  const home = { azimuth: model.get("azimuth"), elevation: model.get("elevation"), zoom: 1 };
  const camera = { ...home };
  let parts = [], waiting = false;

  function draw() {
    waiting = false;
    const width = frame.clientWidth, height = frame.clientHeight, ratio = window.devicePixelRatio || 1;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const radius = model.get("radius") / camera.zoom;
    const perMm = Math.min(width, height) / (2 * radius);            // pixels a mm
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(1, 1, 1, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(shader);
    gl.uniformMatrix3fv(at("view"), false, rotation(camera.azimuth, camera.elevation));
    gl.uniform3fv(at("centre"), model.get("centre"));
    gl.uniform3f(at("scale"), 2 * perMm / width, 2 * perMm / height, 0.25 / model.get("radius"));
    gl.uniform1f(at("unit"), model.get("unit"));
    const one = (part) => {
      gl.uniform3fv(at("colour"), part.colour);
      gl.uniform1f(at("opacity"), part.opacity);
      gl.uniform1f(at("grow"), part.opacity < 1 ? 0.8 : 0);       // mm, see display_vertices
      gl.bindVertexArray(part.array);
      gl.drawElements(gl.TRIANGLES, part.count, part.type, 0);
    };
    gl.disable(gl.BLEND);
    gl.disable(gl.CULL_FACE);
    gl.depthMask(true);
    parts.filter((p) => p.opacity >= 1).forEach(one);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.enable(gl.CULL_FACE);
    gl.depthMask(false);
    for (const hidden of [gl.FRONT, gl.BACK]) {                     // the far sides of the walls first
      gl.cullFace(hidden);
      parts.filter((p) => p.opacity < 1).forEach(one);
    }
    gl.depthMask(true);
    gl.bindVertexArray(null);
    const length = [5, 10, 20, 50, 100].reduce((best, mm) =>
      Math.abs(mm * perMm - width / 4) < Math.abs(best * perMm - width / 4) ? mm : best);
    bar.style.width = `${length * perMm}px`;
    bar.textContent = `${length} mm`;
  }

  function later() {
    if (!waiting) { waiting = true; requestAnimationFrame(draw); }
  }

  function update() {
    for (const part of parts) {
      part.buffers.forEach((b) => gl.deleteBuffer(b));
      gl.deleteVertexArray(part.array);
    }
    const given = model.get("parts");
    parts = given.map((part) => upload(gl, part));
    legend.replaceChildren();
    for (const part of given) {
      const entry = element(legend, "span");
      const swatch = element(entry, "i");
      swatch.style.background = `rgb(${part.colour.map((c) => Math.round(255 * c)).join(",")})`;
      swatch.style.opacity = part.opacity < 1 ? 0.5 : 1;
      entry.append(part.opacity < 1 ? `${part.name} (translucent)` : part.name);
    }
    if (model.get("note")) element(legend, "span", "shapelab-note", model.get("note"));
    caption.textContent = model.get("caption");
    canvas.setAttribute("aria-label", `${model.get("caption")}: ${given.map((p) => p.name).join(", ")}`);
    el.dataset.triangles = String(parts.reduce((sum, p) => sum + p.count / 3, 0));
    el.dataset.checksum = parts.reduce((sum, p) => (Math.imul(sum, 33) + p.checksum) >>> 0, 5381).toString(16);
    draw();
    el.dataset.updates = String(Number(el.dataset.updates) + 1);
  }

  function turn(right, up) {
    camera.azimuth -= right;
    camera.elevation = Math.max(-90, Math.min(90, camera.elevation + up));
    later();
  }
  function zoom(factor) {
    camera.zoom = Math.max(0.4, Math.min(8, camera.zoom * factor));
    later();
  }
  function back() { Object.assign(camera, home); later(); }

  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) turn(-0.5 * event.movementX, 0.5 * event.movementY);
  });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-0.001 * event.deltaY)); },
    { passive: false });
  canvas.addEventListener("dblclick", back);
  const keys = { ArrowLeft: () => turn(10, 0), ArrowRight: () => turn(-10, 0), ArrowUp: () => turn(0, 10),
                 ArrowDown: () => turn(0, -10), "+": () => zoom(1.2), "-": () => zoom(1 / 1.2), Home: back };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  });
  const observer = new ResizeObserver(later);
  observer.observe(frame);
  model.on("change:parts", update);
  model.on("change:centre", later);
  model.on("change:radius", later);
  update();
  return () => {
    observer.disconnect();
    model.off("change:parts", update);
    model.off("change:centre", later);
    model.off("change:radius", later);
    gl.getExtension("WEBGL_lose_context")?.loseContext();       // a page has about sixteen contexts
  };
}

export default { render };
