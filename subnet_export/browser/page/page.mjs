// The page: takes pictures or the camera's frames, has them searched by worker.mjs, and draws the people.
//
// ?backend=wasm or webgpu and ?threads=2 in the address choose how the network runs.

import { drawPeople } from "./drawing.mjs";

const LARGEST = 4096; // side in pixels: larger pictures are made smaller, as not every browser can hold them
const PARTS = ["prepare", "network", "decode"];
const element = (id) => document.getElementById(id);
const canvas = element("canvas"), video = element("video"), choice = element("backend");
const context = canvas.getContext("2d");
const query = new URLSearchParams(location.search);

let settings = null, worker = null, isReady = false;
let picture = null; // what is shown: {image, width, height, people}
let stream = null, facing = "user"; // the camera
let attempt = 0; // of starting or stopping it: a start that another one overtakes ends
let frames = []; // times of the camera's recent frames
let waiting = null, nextId = 0; // the image that the worker is searching

if (["webgpu", "wasm"].includes(query.get("backend"))) choice.value = query.get("backend");
fetch("settings.json")
  .then((response) => response.json())
  .then((content) => {
    settings = content;
    element("details").textContent = settings.about;
    start();
  })
  .catch(() => fail("settings.json could not be loaded; it belongs beside this page."));

/** Starts the worker, or starts it again to compute with something else. */
function start() {
  worker?.terminate();
  [isReady, waiting, frames] = [false, null, []];
  element("runtime").textContent = "loading…";
  say("");
  worker = new Worker("worker.mjs", { type: "module" });
  worker.onmessage = ({ data }) => {
    if (data.error) fail(data.error);
    else if (data.ready) ready(data.ready);
    else show(data);
  };
  worker.onerror = (event) => fail(event.message || "The page's files could not be loaded.");
  worker.postMessage({ start: { backend: choice.value, threads: Number(query.get("threads")) || 0 } });
}

function ready({ backend, threads }) {
  isReady = true;
  const text = backend === "webgpu" ? "WebGPU" : `WASM, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  element("runtime").textContent = text;
  if (stream) searchFrame();
  else if (picture) search(picture.image);
}

function fail(text) {
  waiting = null;
  if (isReady) stopCamera(); // with a picture that stands still, it would look as if it went on
  else element("runtime").textContent = "–";
  say(text);
}

function say(text) {
  element("message").textContent = text;
  element("message").hidden = !text;
}

/** Has the worker search an image, which stays usable here. */
async function search(image) {
  if (!isReady) return;
  const id = ++nextId;
  const copy = await createImageBitmap(image);
  waiting = { image, id };
  worker.postMessage({ image: copy, id }, [copy]);
}

/** Shows the people of the image that was searched last. */
function show({ people, ms, id }) {
  if (id !== waiting?.id) return;
  const { image } = waiting;
  waiting = null;
  if (picture && picture.image !== image) picture.image.close();
  picture = { image, people };
  draw();
  if (stream) {
    const now = performance.now();
    frames = [...frames.filter((time) => now - time < 2000), now];
    const seconds = (now - frames[0]) / 1000;
    if (frames.length > 1) element("speed").textContent = ((frames.length - 1) / seconds).toFixed(1);
    searchFrame();
  } else {
    element("speed").textContent = `${PARTS.reduce((sum, part) => sum + ms[part], 0).toFixed(0)} ms`;
    element("spoken").textContent = canvas.getAttribute("aria-label");
  }
  canvas.dataset.ms = JSON.stringify(ms);
  canvas.dataset.people = JSON.stringify(people);
}

function draw() {
  const { image, people } = picture, least = Number(element("score").value);
  const shown = people.filter(({ score }) => score >= least);
  if (canvas.width !== image.width || canvas.height !== image.height) {
    Object.assign(canvas, { width: image.width, height: image.height });
  }
  [canvas.hidden, element("empty").hidden] = [false, true];
  context.drawImage(image, 0, 0);
  if (shown.length) drawPeople(context, shown, settings.keypoints, canvas.clientWidth);
  element("people").textContent = shown.length;
  const label = shown.length === 1 ? "Picture with 1 person" : `Picture with ${shown.length} people`;
  canvas.setAttribute("aria-label", label);
}

async function openPicture(file) {
  if (!file) return;
  stopCamera();
  say("");
  try {
    let image = await createImageBitmap(file);
    const factor = LARGEST / Math.max(image.width, image.height);
    if (factor < 1) {
      const size = { resizeWidth: Math.round(image.width * factor), resizeHeight: Math.round(image.height * factor) };
      image = await createImageBitmap(image, { ...size, resizeQuality: "high" });
    }
    [picture, frames] = [{ image, people: [] }, []];
    element("speed-name").textContent = "Time";
    element("speed").textContent = "–";
    draw();
    element("people").textContent = "–";
    search(image);
  } catch {
    say(`${file.name || "This"} is not a picture that this browser can read. Open a JPEG or PNG file.`);
  }
}

async function startCamera() {
  if (!navigator.mediaDevices) {
    return say("Browsers allow the camera only at https:// addresses and at localhost.");
  }
  say("");
  stopCamera();
  const own = attempt;
  try {
    const size = { width: { ideal: 640 }, height: { ideal: 480 } };
    const opened = await navigator.mediaDevices.getUserMedia({ video: { ...size, facingMode: facing } });
    if (own !== attempt) return opened.getTracks().forEach((track) => track.stop());
    stream = opened;
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    if (own !== attempt) return;
    const isBlocked = error.name === "NotAllowedError";
    stopCamera();
    say(isBlocked ? "The camera is blocked; allow it for this page and try again." : "No camera could be opened.");
    return;
  }
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  if (own !== attempt) return;
  const [track] = stream.getVideoTracks();
  track.onended = stopCamera;
  canvas.classList.toggle("mirrored", track.getSettings().facingMode !== "environment");
  element("turn").hidden = cameras.length < 2;
  element("camera").textContent = "Stop camera";
  element("camera").setAttribute("aria-pressed", "true");
  element("speed-name").textContent = "Frames/s";
  element("speed").textContent = "–";
  frames = [];
  searchFrame();
}

function stopCamera() {
  attempt++;
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  [stream, waiting, video.srcObject] = [null, null, null];
  canvas.classList.remove("mirrored");
  element("turn").hidden = true;
  element("camera").textContent = "Use camera";
  element("camera").setAttribute("aria-pressed", "false");
}

/** Searches the camera's next frame, unless the page is hidden: it goes on when it is seen again. */
async function searchFrame() {
  await new Promise(requestAnimationFrame);
  if (!stream || waiting || !video.videoWidth) return;
  search(await createImageBitmap(video));
}

element("choose").onclick = () => element("file").click();
element("file").onchange = ({ target }) => {
  openPicture(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
};
element("camera").onclick = () => (stream ? stopCamera() : startCamera());
element("turn").onclick = () => {
  facing = facing === "user" ? "environment" : "user";
  startCamera();
};
element("score").oninput = () => {
  element("score-shown").textContent = Number(element("score").value).toFixed(2);
  if (picture) draw();
};
choice.onchange = () => settings && start();

addEventListener("paste", ({ clipboardData }) => openPicture(clipboardData.files[0]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  element("stage").classList.add("over");
});
addEventListener("dragleave", () => element("stage").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  element("stage").classList.remove("over");
  openPicture(event.dataTransfer.files[0]);
});
