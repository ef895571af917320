"use strict";
// Scroll through the volumes of a case in NiiVue. The part of the address after # is a voxel of the label map: X,Y,Z.
(async () => {
  const element = (id) => document.getElementById(id);
  const data = JSON.parse(element("data").textContent);
  const status = element("status");
  const COLOURS = { prediction: "#2ba6ff", reference: "#ffa200" };  // of a single region
  const MIXED = "#b8a355";  // the reference, half transparent, over the prediction
  const PLANES = ["sagittal", "coronal", "axial"];  // by the axis that a plane cuts
  const bytes = (id) => Uint8Array.from(atob(element(id).textContent), (letter) => letter.charCodeAt(0));

  const stop = (reason) => { status.textContent = reason; element("viewer").hidden = true; };
  if (!document.createElement("canvas").getContext("webgl2")) return stop("This page needs a browser with WebGL 2.");
  if (!("DecompressionStream" in window)) return stop("This page needs a browser from 2023 or later.");

  const packed = new Blob([bytes("niivue")]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.textContent = await new Response(packed).text();
  document.head.append(library);

  const viewer = new niivue.Niivue({
    isRadiologicalConvention: true, isNearestInterpolation: true, multiplanarShowRender: 1, dragAndDropEnabled: false,
    viewModeHotKey: "", clipPlaneHotKey: "", dragMode: 0, logLevel: "error", crosshairWidth: 1, crosshairWidthUnit: "mm",
    crosshairColor: [1, 1, 1, 0.75], showAllOrientationMarkers: true, fontSizeScaling: 0.6, multiplanarLayout: 2, sagittalNoseLeft: true,
    multiplanarPadPixels: 6, backColor: [0, 0, 0, 1],
  });
  await viewer.attachToCanvas(element("canvas"));
  const open = async (id) => { await viewer.loadFromArrayBuffer(bytes(id).buffer, `${id}.nii.gz`); return viewer.volumes.at(-1); };

  // From voxels of the label map to those shown, and back: axes are exchanged and mirrored, nothing is interpolated
  const toScene = (voxel) => data.to_scene.map((row) => Math.round(row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]));
  const toFile = (voxel) => [0, 1, 2].map((axis) => Math.round(
    data.to_scene.reduce((sum, row, other) => sum + row[axis] * (voxel[other] - row[3]), 0)));

  const sliders = PLANES.map((plane) => element(plane));
  const shown = [0, 0, 0];
  const report = () => {
    const image = viewer.volumes[0];
    const parts = data.layers.map((name, number) => {
      const regions = data.codes[viewer.volumes[number + 1].getValue(...shown)];
      return `${name} ${regions.length ? regions.join(", ") : "none"}`;
    });
    const value = Number(image.getValue(...shown).toPrecision(4));
    status.textContent = `Voxel ${toFile(shown).join(", ")}: ${element("modality").value} ${value}; ${parts.join("; ")}`;
    sliders.forEach((slider, axis) => {
      slider.value = shown[axis];
      element(`${slider.id}-at`).textContent = `${shown[axis] + 1} of ${data.shape[axis]}`;
    });
  };
  const move = (voxel) => {
    voxel.forEach((index, axis) => { shown[axis] = Math.min(Math.max(index, 0), data.shape[axis] - 1); });
    viewer.scene.crosshairPos = viewer.vox2frac([...shown]);
    viewer.drawScene();
    contours();
    report();
  };

  const images = new Map();
  const modality = element("modality");
  const low = element("low"), high = element("high");
  const current = () => data.modalities[modality.selectedIndex];
  const windowed = () => {
    const [least, most] = current().range;
    const value = (input) => least + (most - least) * Number(input.value) / 255;
    const image = viewer.volumes[0];
    [image.cal_min, image.cal_max] = [value(low), Math.max(value(high), value(low) + (most - least) / 255)];
    element("window-at").textContent = `${Number(image.cal_min.toPrecision(3))} to ${Number(image.cal_max.toPrecision(3))}`;
    viewer.updateGLVolume();
  };
  const reset = () => {
    const { range: [least, most], window: [black, white] } = current();
    low.value = Math.floor(255 * (black - least) / (most - least));
    high.value = Math.ceil(255 * (white - least) / (most - least));
    windowed();
  };
  const background = async () => {
    const number = modality.selectedIndex;
    const before = images.size ? viewer.volumes[0] : null;
    if (before) viewer.removeVolume(before);
    if (images.has(number)) viewer.addVolume(images.get(number));
    else images.set(number, await open(`image-${number}`));
    viewer.setVolume(images.get(number), 0);
    reset();
  };
  const region = element("region");
  const mode = (layer) => element(`show-${layer}`).value;
  const names = () => region.value === "all" ? data.regions : [region.value];
  const colour = (layer, name) => region.value === "all" ? data.colours[name] : COLOURS[layer];
  const levels = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  const fills = () => {
    data.layers.forEach((layer, number) => {
      const innermost = data.codes.map((regions) => regions.filter((name) => names().includes(name)).at(-1));
      const [R, G, B] = [0, 1, 2].map((part) => innermost.map((name) => name ? levels(colour(layer, name))[part] : 0));
      const A = innermost.map((name) => name && mode(layer) === "fill" ? 255 : 0);
      viewer.volumes[number + 1].setColormapLabel({ R, G, B, A, I: data.codes.map((_, code) => code), labels: data.codes.map(String) });
      viewer.setOpacity(number + 1, 0.5);
    });
    viewer.updateGLVolume();
  };
  // Contours along the edges of voxels, over the slices that NiiVue has drawn
  const contours = () => {
    const over = element("contours"), pen = over.getContext("2d");
    [over.width, over.height] = [element("canvas").width, element("canvas").height];
    for (const { axCorSag, leftTopWidthHeight: [left, top, width, height] } of viewer.screenSlices) {
      if (axCorSag > 2) continue;  // the 3D view
      const [across, up] = [[0, 1], [0, 2], [1, 2]][axCorSag];
      const [columns, rows] = [data.shape[across], data.shape[up]];
      for (const [number, layer] of data.layers.entries()) for (const name of mode(layer) === "contour" ? names() : []) {
        const { img } = viewer.volumes[number + 1];
        const inside = (column, row) => {
          const voxel = [...shown];
          [voxel[across], voxel[up]] = [column, row];
          const isInside = column >= 0 && row >= 0 && column < columns && row < rows;
          return isInside && data.codes[img[voxel[0] + data.shape[0] * (voxel[1] + data.shape[1] * voxel[2])]].includes(name);
        };
        const line = (...ends) => ends.forEach(([column, row], end) => {
          const x = 1 - column / columns;  // the patient's right, or anterior, is on the left
          pen[end ? "lineTo" : "moveTo"](left + width * x, top + height * (1 - row / rows));
        });
        pen.beginPath();
        for (let row = 0; row <= rows; row++) for (let column = 0; column <= columns; column++) {
          if (inside(column, row) !== inside(column - 1, row)) line([column, row], [column, row + 1]);
          if (inside(column, row) !== inside(column, row - 1)) line([column, row], [column + 1, row]);
        }
        for (const [shade, pixels] of [["#000000", 4], [colour(layer, name), 1.75]]) {  // dark edges stand out from a fill
          [pen.strokeStyle, pen.lineWidth] = [shade, pixels * devicePixelRatio];
          pen.stroke();
        }
      }
    }
  };
  const key = () => {
    const entries = region.value === "all"
      ? [...data.regions.map((name) => [data.colours[name], name]), ...data.layers.map((layer) => ["", `${layer}: ${mode(layer)}`, mode(layer)])]
      : data.layers.map((layer) => [COLOURS[layer], `${layer}: ${mode(layer)}`]);
    const areBothFilled = data.layers.every((layer) => mode(layer) === "fill");
    if (region.value !== "all" && areBothFilled) entries.push([MIXED, "both"]);
    element("key").replaceChildren(...entries.map(([shade, text, kind]) => {
      const entry = document.createElement("span");
      entry.append(Object.assign(document.createElement("i"), { className: `swatch ${kind ?? ""}`, style: shade && `background: ${shade}` }), " ");
      entry.append(text);
      return entry;
    }));
  };
  const overlays = () => { fills(); contours(); key(); };

  await background();
  for (const number of data.layers.keys()) await open(`layer-${number}`);
  overlays();
  viewer.setSliceType(viewer.sliceTypeMultiplanar);

  const address = () => location.hash.slice(1).split(",").map(Number);
  const follow = () => {
    const voxel = address();
    if (voxel.length === 3 && voxel.every(Number.isInteger)) move(toScene(voxel));
    element("canvas").scrollIntoView({ block: "nearest" });
  };
  viewer.onLocationChange = ({ vox }) => { vox.slice(0, 3).forEach((index, axis) => { shown[axis] = index; }); contours(); report(); };
  new ResizeObserver(() => requestAnimationFrame(contours)).observe(element("canvas"));
  sliders.forEach((slider, axis) => slider.addEventListener("input", () =>
    move(shown.map((index, other) => other === axis ? Number(slider.value) : index))));
  modality.addEventListener("change", async () => { await background(); move(shown); });
  [low, high].forEach((input) => input.addEventListener("input", windowed));
  element("reset").addEventListener("click", reset);
  ["region", ...data.layers.map((name) => `show-${name}`)].forEach((id) => element(id).addEventListener("input", overlays));
  window.addEventListener("hashchange", follow);
  element("controls").disabled = false;
  move(data.start);
  if (location.hash) follow();
})().catch((error) => { document.getElementById("status").textContent = `The slices cannot be shown: ${error.message}`; });
