// Draws skeletons on a canvas: one hue per person, left limbs light and right limbs dark, doubtful ones faint.

const HUE_STEP = 222.492; // the golden ratio of a circle, in degrees: hues of successive people are far apart
const LIGHTNESS = { left: 62, right: 42, "": 54 };
const CERTAIN = 0.3; // value from which a keypoint is drawn in full
const FAINTEST = 0.15;

/**
 * Draws people: {keypoints: [[x, y, value], ...]} in pixels of the canvas, of which a value of 0 is not drawn.
 *
 * `shownWidth` is the width at which the page shows the canvas, so that lines are equally wide in small and large
 * pictures.
 */
export function drawPeople(context, people, { flip_pairs, skeleton }, shownWidth) {
  const unit = context.canvas.width / Math.max(shownWidth, 1);
  const sides = {};
  for (const [left, right] of flip_pairs) [sides[left], sides[right]] = ["left", "right"];
  const opacity = (...values) => Math.max(Math.min(...values, CERTAIN) / CERTAIN, FAINTEST);
  context.save();
  context.lineCap = "round";
  people.forEach(({ keypoints }, number) => {
    const colour = (side) => `hsl(${(170 + number * HUE_STEP) % 360} 90% ${LIGHTNESS[side ?? ""]}%)`;
    const limbs = skeleton.filter((ends) => ends.every((k) => keypoints[k][2] > 0));
    // A dark edge keeps lines visible on light pictures.
    for (const [width, style] of [[5, () => "rgb(0 0 0 / 45%)"], [3, colour]]) {
      context.lineWidth = width * unit;
      for (const [first, second] of limbs) {
        context.globalAlpha = opacity(keypoints[first][2], keypoints[second][2]);
        context.strokeStyle = style(sides[first] === sides[second] ? sides[first] : "");
        context.beginPath();
        context.moveTo(keypoints[first][0], keypoints[first][1]);
        context.lineTo(keypoints[second][0], keypoints[second][1]);
        context.stroke();
      }
    }
    keypoints.forEach(([x, y, value], k) => {
      if (!(value > 0)) return;
      context.globalAlpha = opacity(value);
      context.beginPath();
      context.arc(x, y, 4 * unit, 0, 2 * Math.PI);
      context.fillStyle = colour(sides[k]);
      context.fill();
      context.lineWidth = unit;
      context.strokeStyle = "rgb(255 255 255 / 85%)";
      context.stroke();
    });
  });
  context.restore();
}
