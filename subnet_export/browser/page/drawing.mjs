// Draws skeletons on a canvas: one hue per person, left limbs light and right limbs dark.

const HUE_STEP = 222.492; // the golden ratio of a circle, in degrees: hues of successive people are far apart
const LIGHTNESS = { left: 62, right: 42, "": 54 };

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
  const colour = (number, side) => `hsl(${(170 + number * HUE_STEP) % 360} 90% ${LIGHTNESS[side ?? ""]}%)`;
  context.lineCap = "round";
  people.forEach(({ keypoints }, number) => {
    const limbs = skeleton.filter(([first, second]) => keypoints[first][2] > 0 && keypoints[second][2] > 0);
    // A dark edge keeps lines visible on light pictures.
    for (const [width, style] of [[5, () => "rgb(0 0 0 / 45%)"], [3, (side) => colour(number, side)]]) {
      context.lineWidth = width * unit;
      for (const [first, second] of limbs) {
        context.strokeStyle = style(sides[first] === sides[second] ? sides[first] : "");
        context.beginPath();
        context.moveTo(keypoints[first][0], keypoints[first][1]);
        context.lineTo(keypoints[second][0], keypoints[second][1]);
        context.stroke();
      }
    }
    keypoints.forEach(([x, y, value], k) => {
      if (!(value > 0)) return;
      context.beginPath();
      context.arc(x, y, 4 * unit, 0, 2 * Math.PI);
      context.fillStyle = colour(number, sides[k]);
      context.fill();
      context.lineWidth = unit;
      context.strokeStyle = "rgb(255 255 255 / 85%)";
      context.stroke();
    });
  });
}
