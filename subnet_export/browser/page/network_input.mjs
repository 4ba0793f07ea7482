// Turns images into inputs of the network, and positions in an input back into positions in its image.
//
//   const input = resizeForNetwork(rgba, width, height, settings);
//   const found = toImage(decode(outputs, settings), input);
//
// In every frame pixel i covers i to i + 1. The sizes and the bilinear interpolation are those with which the model was
// measured; a browser's own resizing would smooth the image, and the network would see something else.

/** Size of the network's input for an image, and the way back: image point = input point * scale + offset. */
export function inputFrame(width, height, settings) {
  const { short_side: short, long_side_multiple_of: divisor } = settings.input;
  let size = [short, short];
  if (width !== height) {
    const long = Math.floor((Math.max(width, height) * short) / Math.min(width, height));
    const padded = Math.max(Math.ceil(long / divisor) * divisor, short);
    size = width < height ? [short, padded] : [padded, short];
  }
  const scale = Math.min(width, height) / short;
  const middle = [Math.floor((width + 1) / 2), Math.floor((height + 1) / 2)];
  return {
    width: size[0],
    height: size[1],
    scale,
    offsetX: middle[0] - (size[0] * scale) / 2,
    offsetY: middle[1] - (size[1] * scale) / 2,
  };
}

/**
 * Resizes an image (height x width x RGBA bytes) to the network's input by bilinear interpolation, black outside.
 * Returns the frame of `inputFrame` with `pixels`: height x width x RGB bytes.
 */
export function resizeForNetwork(rgba, width, height, settings) {
  const frame = inputFrame(width, height, settings);
  const pixels = new Uint8ClampedArray(frame.width * frame.height * 3); // rounds halves to even, as OpenCV does
  const across = taps(frame.width, frame.scale, frame.offsetX, width);
  const down = taps(frame.height, frame.scale, frame.offsetY, height);
  let to = 0;
  for (let y = 0; y < frame.height; y++) {
    const top = down.first[y] * width * 4, bottom = down.second[y] * width * 4;
    const aboveWeight = down.firstWeight[y], belowWeight = down.secondWeight[y];
    for (let x = 0; x < frame.width; x++) {
      const left = across.first[x] * 4, right = across.second[x] * 4;
      const leftWeight = across.firstWeight[x], rightWeight = across.secondWeight[x];
      for (let channel = 0; channel < 3; channel++) {
        const above = rgba[top + left + channel] * leftWeight + rgba[top + right + channel] * rightWeight;
        const below = rgba[bottom + left + channel] * leftWeight + rgba[bottom + right + channel] * rightWeight;
        pixels[to++] = above * aboveWeight + below * belowWeight;
      }
    }
  }
  return { ...frame, pixels: new Uint8Array(pixels.buffer) };
}

/** For each place of one axis of the input, the two pixels of the image around it and their weights. */
function taps(length, scale, offset, imageLength) {
  const first = new Int32Array(length), second = new Int32Array(length);
  const firstWeight = new Float64Array(length), secondWeight = new Float64Array(length);
  for (let i = 0; i < length; i++) {
    const place = (i + 0.5) * scale + offset - 0.5; // pixel centres lie at whole numbers here
    const before = Math.floor(place);
    const isInside = (pixel) => pixel >= 0 && pixel < imageLength;
    first[i] = Math.min(Math.max(before, 0), imageLength - 1);
    second[i] = Math.min(Math.max(before + 1, 0), imageLength - 1);
    firstWeight[i] = isInside(before) ? 1 - (place - before) : 0;
    secondWeight[i] = isInside(before + 1) ? place - before : 0;
  }
  return { first, second, firstWeight, secondWeight };
}

/** Returns people with their keypoints in pixels of the image instead of the input. */
export function toImage(people, frame) {
  const move = ([x, y, value]) =>
    value > 0 ? [x * frame.scale + frame.offsetX, y * frame.scale + frame.offsetY, value] : [x, y, value];
  return people.map((person) => ({ ...person, keypoints: person.keypoints.map(move) }));
}
