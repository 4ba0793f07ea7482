// Turns the outputs of an exported LitePose into people. An ES module for browsers and Node, without dependencies.
//
//   const people = decode(outputs, settings);     // [{score, keypoints: [[x, y, value], ...]}, ...]
//
// `settings` is the content of settings.json beside this file, of which `keypoint_order` and `inference` are used; the
// metadata of the ONNX file holds the same under `litepose`. Positions are in pixels of the network's input
// (network_input.mjs turns them into pixels of the image), where pixel i covers i to i + 1. The value of a keypoint
// that was not found is 0. The people, and their order, are those of the Python decoder.

const FORBIDDEN = 1e6; // cost of a pair that may not be
const REACH = 2; // pixels on each side of a peak that are fitted, and the largest step
const FLOOR = 0.01; // least value that is fitted, relative to the peak
const FLAT = 1e-6; // curvature below which a quadratic has no top
const BLOCK = 8; // side of the blocks, in pixels, in which missing keypoints are searched

/**
 * Finds people in the outputs of the network for one image.
 *
 * outputs: by name {data: Float32Array, dims}: `low` [1, 2K, h, w] with K heatmaps and then K tag maps, and `high`
 * [1, K, 2h, 2w] with K heatmaps; or, where the graph decodes itself, `detections` [1, K, M, 4]: x, y, value, tag.
 */
export function decode(outputs, settings) {
  return outputs.detections ? fromDetections(outputs.detections, settings) : fromMaps(outputs, settings);
}

function fromMaps({ low, high }, { keypoint_order, inference }) {
  const numKeypoints = keypoint_order.length, [, channels, height, width] = low.dims;
  if (channels !== 2 * numKeypoints || `${high.dims}` !== `1,${numKeypoints},${2 * height},${2 * width}`) {
    throw new Error(`the outputs [${low.dims}] and [${high.dims}] do not fit ${numKeypoints} keypoints`);
  }
  const coarse = (channel) =>
    doubled(low.data.subarray(channel * height * width, (channel + 1) * height * width), width, height);
  const maps = keypoint_order.map((_, k) => {
    const mean = coarse(k), fine = high.data.subarray(k * mean.length, (k + 1) * mean.length);
    for (let i = 0; i < mean.length; i++) mean[i] = (mean[i] + fine[i]) / 2;
    // Tags are needed at few places, so they are enlarged to half the size of the input only; tagAt does the rest.
    const tags = coarse(numKeypoints + k);
    return { heat: doubled(mean, 2 * width, 2 * height), tags, width: 4 * width, height: 4 * height };
  });
  const entry = (map, place) => ({ place, value: map.heat[place], tag: tagAt(map, place) });
  const detections = maps.map((map) => peaks(map, inference).map((place) => entry(map, place)).filter(isNumber));
  const people = matchByTag(detections, keypoint_order, inference);
  if (inference.refine) {
    maps.forEach((map, k) => {
      const lacking = people.filter(({ members }) => !members[k]);
      const blocks = lacking.length ? blockRanges(map) : [];
      for (const { members, mean } of lacking) {
        const best = entry(map, bestPlace(map, blocks, mean));
        if (best.value > 0) members[k] = best;
      }
    });
  }
  return asPeople(people, (member, k) => position(maps[k], member, inference));
}

function fromDetections({ data, dims }, { keypoint_order, inference }) {
  const [, numKeypoints, num, width] = dims;
  if (numKeypoints !== keypoint_order.length || width !== 4) {
    throw new Error(`the output [${dims}] does not fit ${keypoint_order.length} keypoints`);
  }
  const all = keypoint_order.map((_, k) =>
    Array.from({ length: num }, (_, i) => {
      const [x, y, value, tag] = data.subarray((k * num + i) * 4, (k * num + i + 1) * 4);
      return { x, y, value, tag };
    }).filter((entry) => entry.value > 0 && isNumber(entry)),
  );
  const threshold = Math.fround(inference.detection_threshold);
  const certain = all.map((entries) => entries.filter(({ value }) => value > threshold).slice(0, inference.max_people));
  const people = matchByTag(certain, keypoint_order, inference);
  if (inference.refine) {
    for (const { members, mean } of people) {
      const score = ({ value, tag }) => Math.fround(value - tagDistance(tag, mean));
      all.forEach((entries, k) => {
        const best = entries.reduce((first, other) => (first && score(first) >= score(other) ? first : other), null);
        if (!members[k]) members[k] = best;
      });
    }
  }
  return asPeople(people, ({ x, y, value }) => [x, y, value]);
}

/** Whether a detection can be matched: a network in 16 bits may overflow. */
function isNumber({ value, tag }) {
  return Number.isFinite(value) && Number.isFinite(tag);
}

function asPeople(people, keypoint) {
  return people.map(({ score, members }) => ({
    score,
    keypoints: members.map((member, k) => (member ? keypoint(member, k) : [0, 0, 0])),
  }));
}

/** Enlarges a map to twice its size, bilinearly between pixel centres; outside, the border continues. */
function doubled(map, width, height) {
  const result = new Float32Array(4 * width * height), row = new Float32Array(2 * width * height);
  for (let y = 0; y < height; y++) {
    const from = y * width, to = 2 * from;
    row[to] = map[from];
    row[to + 2 * width - 1] = map[from + width - 1];
    for (let x = 1; x < width; x++) {
      const left = map[from + x - 1], right = map[from + x];
      row[to + 2 * x - 1] = left * 0.75 + right * 0.25;
      row[to + 2 * x] = left * 0.25 + right * 0.75;
    }
  }
  for (let y = 0; y < 2 * height; y++) {
    const above = Math.max((y + 1) >> 1, 1) - 1, below = Math.min((y + 1) >> 1, height - 1);
    const weight = y % 2 ? 0.75 : 0.25;
    const top = above * 2 * width, bottom = below * 2 * width, to = y * 2 * width;
    for (let x = 0; x < 2 * width; x++) {
      result[to + x] = row[top + x] * weight + row[bottom + x] * (1 - weight);
    }
  }
  return result;
}

/** The value that `doubled` would give the map `tags`, of half the width and height, at one place. */
function tagAt({ tags, width, height }, place) {
  const x = place % width, y = (place - x) / width, half = width >> 1;
  const left = Math.max(((x + 1) >> 1) - 1, 0), right = Math.min((x + 1) >> 1, half - 1);
  const above = Math.max(((y + 1) >> 1) - 1, 0) * half, below = Math.min((y + 1) >> 1, (height >> 1) - 1) * half;
  const across = left === right ? 1 : x % 2 ? 0.75 : 0.25, down = y % 2 ? 0.75 : 0.25;
  const top = Math.fround(tags[above + left] * across + tags[above + right] * (1 - across));
  const bottom = Math.fround(tags[below + left] * across + tags[below + right] * (1 - across));
  return Math.fround(top * down + bottom * (1 - down));
}

/** Places of the highest local maxima above the threshold, highest first; of equal pixels in one square, the first. */
function peaks({ heat, width, height }, { detection_threshold, nms_kernel, max_people }) {
  const reach = (nms_kernel - 1) / 2, threshold = Math.fround(detection_threshold);
  const candidates = [];
  for (let place = 0; place < heat.length; place++) {
    if (heat[place] > threshold && isHighest(heat, place, width, height, reach)) candidates.push(place);
  }
  candidates.sort((a, b) => heat[b] - heat[a] || a - b);
  const kept = [];
  for (const place of candidates) {
    const isNear = (other) =>
      heat[other] === heat[place] &&
      Math.abs((other % width) - (place % width)) <= reach &&
      Math.abs(Math.floor(other / width) - Math.floor(place / width)) <= reach;
    if (!kept.some(isNear)) kept.push(place);
    if (kept.length === max_people) break;
  }
  return kept;
}

function isHighest(heat, place, width, height, reach) {
  const value = heat[place], x = place % width, y = (place - x) / width;
  // Its neighbours exclude most pixels at little cost.
  if ((x > 0 && reach && heat[place - 1] > value) || (x + 1 < width && reach && heat[place + 1] > value)) return false;
  const left = Math.max(x - reach, 0), right = Math.min(x + reach, width - 1);
  const bottom = Math.min(y + reach, height - 1);
  for (let row = Math.max(y - reach, 0); row <= bottom; row++) {
    for (let i = row * width + left; i <= row * width + right; i++) if (heat[i] > value) return false;
  }
  return true;
}

/**
 * Assigns detections to people, keypoint by keypoint.
 *
 * detections: for each keypoint a list of {value, tag}, highest first.
 * Returns people in order of creation: {members: a detection or null per keypoint, mean: their mean tag, score: their
 * mean value over all keypoints}.
 */
function matchByTag(detections, order, { max_people, tag_threshold, matching }) {
  const people = [], thresholded = matching === "thresholded";
  for (const k of order) {
    const spots = detections[k];
    const known = people.slice(0, max_people);
    const distances = spots.map(({ tag }) => known.map(({ sum, count }) => Math.abs(tag - sum / count)));
    // A new person costs as much as the farthest match; in the reference, as many pairs as possible are made.
    const numAlone = thresholded ? spots.length : Math.max(0, spots.length - known.length);
    const alone = new Array(numAlone).fill(thresholded ? roundHalfEven(tag_threshold) * 100 : FORBIDDEN);
    const costs = distances.map((row, i) => [
      ...row.map((distance) =>
        thresholded && distance >= tag_threshold ? FORBIDDEN : roundHalfEven(distance) * 100 - spots[i].value,
      ),
      ...alone,
    ]);
    const columns = known.length ? cheapestAssignment(costs) : spots.map(() => -1);
    spots.forEach((spot, i) => {
      const joins = columns[i] >= 0 && columns[i] < known.length && distances[i][columns[i]] < tag_threshold;
      const person = joins ? known[columns[i]] : { members: detections.map(() => null), sum: 0, count: 0 };
      if (!joins) people.push(person);
      person.members[k] = spot;
      person.sum += spot.tag;
      person.count += 1;
    });
  }
  const score = (members) => members.reduce((sum, member) => sum + (member ? member.value : 0), 0) / members.length;
  return people.map(({ members, sum, count }) => ({ members, mean: Math.fround(sum / count), score: score(members) }));
}

/**
 * Solves the linear assignment problem by shortest augmenting paths: for each row its column, at the least total cost.
 *
 * Source: D. F. Crouse, On implementing 2D rectangular assignment algorithms, 2016. Of several equally cheap columns a
 * path takes a free one, and among these the one it meets last, from the last column to the first, as SciPy does: many
 * assignments of people cost the same, and then this decides. costs: rows of equal length, at least as long as there
 * are rows.
 */
export function cheapestAssignment(costs) {
  const numColumns = costs.length ? costs[0].length : 0;
  const rowPrices = new Float64Array(costs.length), columnPrices = new Float64Array(numColumns);
  const columnOf = new Int32Array(costs.length).fill(-1), rowOf = new Int32Array(numColumns).fill(-1);
  for (let start = 0; start < costs.length; start++) {
    const reached = new Float64Array(numColumns).fill(Infinity), from = new Int32Array(numColumns).fill(-1);
    const open = Array.from({ length: numColumns }, (_, i) => numColumns - 1 - i);
    const visited = [], closed = [];
    let row = start, length = 0, end = -1;
    while (end < 0) {
      visited.push(row);
      let nearest = 0, least = Infinity;
      open.forEach((column, i) => {
        const step = length + costs[row][column] - rowPrices[row] - columnPrices[column];
        if (step < reached[column]) [reached[column], from[column]] = [step, row];
        if (reached[column] < least || (reached[column] === least && rowOf[column] < 0)) {
          [least, nearest] = [reached[column], i];
        }
      });
      length = least;
      const column = open[nearest];
      closed.push(column);
      const last = open.pop();
      if (nearest < open.length) open[nearest] = last;
      if (rowOf[column] < 0) end = column;
      else row = rowOf[column];
    }
    for (const i of visited) rowPrices[i] += i === start ? length : length - reached[columnOf[i]];
    for (const j of closed) columnPrices[j] -= length - reached[j];
    for (let column = end; ; ) {
      const owner = from[column], previous = columnOf[owner];
      [rowOf[column], columnOf[owner]] = [owner, column];
      if (owner === start) break;
      column = previous;
    }
  }
  return [...columnOf];
}

/** For each block of a map its highest heat and a range that contains its tags. */
function blockRanges({ heat, tags, width, height }) {
  const columns = Math.ceil(width / BLOCK), rows = Math.ceil(height / BLOCK), half = width >> 1;
  const filled = (value) => new Float32Array(columns * rows).fill(value);
  const peak = filled(-Infinity), low = filled(Infinity), high = filled(-Infinity);
  for (let block = 0; block < peak.length; block++) {
    const top = Math.floor(block / columns) * BLOCK, left = (block % columns) * BLOCK;
    let highest = -Infinity;
    for (let y = top; y < Math.min(top + BLOCK, height); y++) {
      const end = y * width + Math.min(left + BLOCK, width);
      for (let place = y * width + left; place < end; place++) if (heat[place] > highest) highest = heat[place];
    }
    peak[block] = highest;
    // Tags are interpolated from those of half the size, one pixel further than the block.
    const bottom = Math.min((top + BLOCK) / 2 + 1, height >> 1), right = Math.min((left + BLOCK) / 2 + 1, half);
    for (let y = Math.max(top / 2 - 1, 0); y < bottom; y++) {
      for (let x = Math.max(left / 2 - 1, 0); x < right; x++) {
        const tag = tags[y * half + x];
        if (tag < low[block]) low[block] = tag;
        if (tag > high[block]) high[block] = tag;
      }
    }
  }
  return { peak, low, high, columns };
}

/** The first place of the highest heat minus rounded tag distance; blocks that cannot hold it are skipped. */
function bestPlace(map, { peak, low, high, columns }, mean) {
  const { heat, width, height } = map;
  let best = -Infinity, found = 0;
  const bound = (block) =>
    Math.fround(peak[block] - tagDistance(Math.min(Math.max(mean, low[block]), high[block]), mean));
  const search = (block) => {
    const top = Math.floor(block / columns) * BLOCK, left = (block % columns) * BLOCK;
    for (let y = top; y < Math.min(top + BLOCK, height); y++) {
      const end = y * width + Math.min(left + BLOCK, width);
      for (let place = y * width + left; place < end; place++) {
        if (heat[place] < best) continue; // the distance only lowers it
        const score = Math.fround(heat[place] - tagDistance(tagAt(map, place), mean));
        if (score > best || (score === best && place < found)) [best, found] = [score, place];
      }
    }
  };
  let first = 0, highest = -Infinity;
  for (let block = 0; block < peak.length; block++) {
    if (peak[block] <= highest) continue;
    const own = bound(block);
    if (own > highest) [highest, first] = [own, block];
  }
  search(first);
  for (let block = 0; block < peak.length; block++) {
    if (peak[block] >= best && bound(block) >= best) search(block);
  }
  return found;
}

/** Position and value of a keypoint: the centre of its pixel, or from there to where the peak lies. */
function position(map, { place, value }, { adjust, decoding }) {
  const x = place % map.width, y = (place - x) / map.width;
  const [stepX, stepY] = !adjust ? [0, 0] : decoding === "published" ? quarterStep(map, x, y) : fittedStep(map, x, y);
  return [x + 0.5 + stepX, y + 0.5 + stepY, value];
}

/** A quarter pixel towards the higher of two neighbours, in x and in y. */
function quarterStep({ heat, width, height }, x, y) {
  const at = (column, row) => heat[row * width + column];
  const right = at(Math.min(x + 1, width - 1), y) > at(Math.max(x - 1, 0), y);
  const down = at(x, Math.min(y + 1, height - 1)) > at(x, Math.max(y - 1, 0));
  return [right ? 0.25 : -0.25, down ? 0.25 : -0.25];
}

/** To the top of a Gaussian: its logarithm, a quadratic, is fitted to 5 x 5 pixels by least squares. */
function fittedStep({ heat, width, height }, x, y) {
  const inside = (value, length) => Math.min(Math.max(value, REACH), Math.max(REACH, length - 1 - REACH));
  const middleX = inside(x, width), middleY = inside(y, height), peak = heat[y * width + x];
  let slopeX = 0, slopeY = 0, xx = 0, yy = 0, xy = 0;
  for (let dy = -REACH; dy <= REACH; dy++) {
    for (let dx = -REACH; dx <= REACH; dx++) {
      const row = Math.min(middleY + dy, height - 1), column = Math.min(middleX + dx, width - 1);
      const logarithm = Math.log(Math.max(heat[row * width + column] / peak, FLOOR));
      // On this grid dx, dy, dx^2 - 2, dy^2 - 2 and dx dy are orthogonal, so each coefficient is a sum of its own.
      slopeX += (dx * logarithm) / 50;
      slopeY += (dy * logarithm) / 50;
      xx += ((dx * dx - 2) * logarithm) / 35;
      yy += ((dy * dy - 2) * logarithm) / 35;
      xy += (dx * dy * logarithm) / 100;
    }
  }
  const determinant = xx * yy - xy * xy;
  if (!(xx < -FLAT && determinant > -FLAT * xx)) return [0, 0];
  const limited = (step) => Math.min(Math.max(step, -REACH), REACH);
  return [
    limited((xy * slopeY - yy * slopeX) / determinant + middleX - x),
    limited((xy * slopeX - xx * slopeY) / determinant + middleY - y),
  ];
}

/** Rounded difference of two tags. */
function tagDistance(tag, mean) {
  return roundHalfEven(Math.abs(Math.fround(tag - mean)));
}

/** Nearest whole number, the even one of two. */
function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
