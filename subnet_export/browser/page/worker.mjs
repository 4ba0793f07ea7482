// Finds people away from the page's own thread, so that the page stays responsive.
//
// Messages in: {start: {backend: "auto" | "webgpu" | "wasm", threads}}, then {image: ImageBitmap, id}.
// Messages out: {ready: {backend, threads}}, {people, ms: {prepare, network, decode}, id}, {error}.

import { decode } from "./decode.mjs";
import { resizeForNetwork, toImage } from "./network_input.mjs";

const BUILDS = {
  webgpu: { script: "ort.webgpu.bundle.min.mjs", binary: "ort-wasm-simd-threaded.asyncify.wasm" },
  wasm: { script: "ort.wasm.bundle.min.mjs", binary: "ort-wasm-simd-threaded.wasm" },
};
const MOST_THREADS = 4; // more gain nothing for networks of this size

let settings, runtime, session;
const canvas = new OffscreenCanvas(1, 1);
const context = canvas.getContext("2d", { willReadFrequently: true });

onmessage = async ({ data: { start, image, id } }) => {
  try {
    if (start) postMessage({ ready: await open(start) });
    else postMessage({ ...(await peopleIn(image)), id });
  } catch (error) {
    postMessage({ error: error.message || String(error) });
  }
};

/** Loads settings, model and runtime; returns what it runs on. */
async function open({ backend, threads }) {
  settings = await (await fetched("settings.json")).json();
  const model = new Uint8Array(await (await fetched("network.onnx")).arrayBuffer());
  const numThreads = self.crossOriginIsolated ? threads || Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
  const wanted = backend === "auto" ? ((await hasGraphicsCard()) ? ["webgpu", "wasm"] : ["wasm"]) : [backend];
  for (const name of wanted) {
    try {
      if (name === "webgpu" && !(await navigator.gpu?.requestAdapter())) {
        throw new Error("This browser offers no WebGPU here. Compute with the processor instead.");
      }
      runtime = await loaded(BUILDS[name], numThreads);
      // Only errors: it warns of nodes that it leaves to the processor on purpose.
      session = await runtime.InferenceSession.create(model, { executionProviders: [name], logSeverityLevel: 3 });
      return { backend: name, threads: name === "wasm" ? numThreads : 0 };
    } catch (error) {
      if (name === wanted.at(-1)) throw error;
    }
  }
}

/** Whether WebGPU is there and does not merely imitate a graphics card, which is slower than WASM. */
async function hasGraphicsCard() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

/** Loads a build of ONNX Runtime, of which every byte is compared with the checksums in settings.json. */
async function loaded({ script, binary }, numThreads) {
  const { address, integrity } = settings.runtime;
  const file = (name) => fetched(new URL(name, new URL(address, location.href)), { integrity: integrity[name] });
  const [code, wasm] = await Promise.all([file(script), file(binary)]);
  const copy = URL.createObjectURL(new Blob([await code.arrayBuffer()], { type: "text/javascript" }));
  const library = await import(copy);
  Object.assign(library.env.wasm, { wasmBinary: await wasm.arrayBuffer(), numThreads });
  library.env.logLevel = "error";
  return library;
}

async function fetched(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error(`${address} could not be loaded, or is not the file that this page was made with.`);
  }
  if (!response.ok) throw new Error(`${address} could not be loaded (${response.status}).`);
  return response;
}

async function peopleIn(image) {
  const began = performance.now();
  const { width, height } = image;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  context.fillRect(0, 0, width, height); // black shows through transparent pictures, as outside of all pictures
  context.drawImage(image, 0, 0);
  image.close();
  const { data } = context.getImageData(0, 0, width, height);
  const { pixels, ...frame } = resizeForNetwork(data, width, height, settings);
  const input = networkInput(pixels, frame);
  const prepared = performance.now();
  const tensors = await session.run({ [settings.input.name]: input });
  const outputs = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    outputs[name] = { data: await tensor.getData(), dims: tensor.dims };
  }
  const ran = performance.now();
  const people = toImage(decode(outputs, settings), frame);
  for (const tensor of Object.values(tensors)) tensor.dispose();
  const ms = { prepare: prepared - began, network: ran - prepared, decode: performance.now() - ran };
  return { people, ms };
}

/** The tensor that the graph takes: bytes (1, H, W, 3), or normalised numbers (1, 3, H, W). */
function networkInput(pixels, { width, height }) {
  if (settings.takes === "uint8") return new runtime.Tensor("uint8", pixels, [1, height, width, 3]);
  const { mean, std } = settings.input, area = width * height;
  const values = new Float32Array(3 * area);
  for (let i = 0; i < area; i++) {
    for (let channel = 0; channel < 3; channel++) {
      values[channel * area + i] = (pixels[3 * i + channel] - mean[channel]) / std[channel];
    }
  }
  return new runtime.Tensor("float32", values, [1, 3, height, width]);
}
