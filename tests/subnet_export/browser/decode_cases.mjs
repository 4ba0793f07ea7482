// node decode_cases.mjs PAGE_FOLDER CASES.json: runs the page's modules on files of numbers and prints their results.

import { readFileSync } from "node:fs";

const [folder, casesFile] = process.argv.slice(2);
const { decode } = await import(`${folder}/decode.mjs`);
const { resizeForNetwork, toImage } = await import(`${folder}/network_input.mjs`);

const floats = ({ file, dims }) => {
  const bytes = readFileSync(file);
  return { data: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4), dims };
};
const results = JSON.parse(readFileSync(casesFile)).map(({ outputs, image, people, settings }) => {
  if (outputs) {
    return decode(Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, floats(value)])), settings);
  }
  const { pixels, ...frame } = resizeForNetwork(readFileSync(image.file), image.width, image.height, settings);
  return { ...frame, pixels: Array.from(pixels), people: toImage(people, frame) };
});
console.log(JSON.stringify(results));
