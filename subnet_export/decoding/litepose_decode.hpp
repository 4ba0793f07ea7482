// People from the outputs of an exported LitePose network: C++17, one header, no dependencies.
//
//   auto people = litepose::group_detections(detections, K, M, settings);      // of a graph exported with --decode
//   auto people = litepose::group_maps(low, high, K, width, height, settings);   // of one exported without it
//   litepose::to_image(people, litepose::input_frame(image_width, image_height, 256));
//
// The people are those of pose.py, and of the project that exports the network. The values of `Settings` stand in
// `model.json` and in the ONNX file's metadata, under `decoder`. One pass at one scale; a test with mirrored images or
// several scales is not offered here.
//
// Pixel i covers i to i + 1; positions are pixels of the network's input until `to_image`.

#ifndef LITEPOSE_DECODE_HPP
#define LITEPOSE_DECODE_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace litepose {

// `decoder.inference` of model.json, and `decoder.keypoint_order`.
struct Settings {
  int max_people = 30;
  float detection_threshold = 0.1f;
  float tag_threshold = 1.0f;
  int nms_kernel = 5;
  bool adjust = true;
  bool refine = true;
  bool thresholded = true;          // matching: "thresholded", else "reference"
  bool unbiased = false;            // decoding: "unbiased", else "published"
  std::vector<int> keypoint_order;  // empty: COCO's, for any number of keypoints
};

struct Keypoint {
  float x = 0, y = 0, value = 0;  // all 0: not found
};

struct Person {
  std::vector<Keypoint> keypoints;
  float score = 0;
};

struct Detection {
  float x, y, value, tag;
  // A network in 16 bits may overflow; such a detection has no cost, and assigning it would not end.
  bool is_finite() const { return std::isfinite(value) && std::isfinite(tag); }
};

// How an image lies in the network's input: image point = input point * scale + offset.
struct Frame {
  int width, height;  // of the input
  double scale, offset_x, offset_y;
};

// The input of an image: its short side becomes `short_side`, the long one the next multiple of `divisor`; outside the
// image the input is black.
inline Frame input_frame(int image_width, int image_height, int short_side, int divisor = 64) {
  const long least = std::min(image_width, image_height), most = std::max(image_width, image_height);
  const long whole = most * short_side / least;
  const long padded = std::max((whole + divisor - 1) / divisor * divisor, static_cast<long>(short_side));
  const int resized = least == most ? short_side : static_cast<int>(padded);
  Frame frame{};
  frame.width = image_width < image_height ? short_side : resized;
  frame.height = image_width < image_height ? resized : short_side;
  frame.scale = static_cast<double>(least) / short_side;
  frame.offset_x = (image_width + 1) / 2 - frame.width * frame.scale / 2;
  frame.offset_y = (image_height + 1) / 2 - frame.height * frame.scale / 2;
  return frame;
}

// Resample an image (height, width, 3) of bytes to the input of `frame`, bilinearly.
inline std::vector<unsigned char> resize_image(const unsigned char* image, int width, int height, const Frame& frame) {
  std::vector<unsigned char> input(static_cast<std::size_t>(frame.width) * frame.height * 3);
  for (int row = 0; row < frame.height; ++row) {
    const double y = (row + 0.5) * frame.scale + frame.offset_y - 0.5;
    for (int column = 0; column < frame.width; ++column) {
      const double x = (column + 0.5) * frame.scale + frame.offset_x - 0.5;
      const int left = static_cast<int>(std::floor(x)), top = static_cast<int>(std::floor(y));
      for (int channel = 0; channel < 3; ++channel) {
        double sum = 0;
        for (int corner = 0; corner < 4; ++corner) {
          const int cx = left + corner % 2, cy = top + corner / 2;
          if (cx < 0 || cy < 0 || cx >= width || cy >= height) continue;
          const double weight = (1 - std::abs(x - cx)) * (1 - std::abs(y - cy));
          sum += weight * image[(static_cast<std::size_t>(cy) * width + cx) * 3 + channel];
        }
        const std::size_t place = (static_cast<std::size_t>(row) * frame.width + column) * 3 + channel;
        input[place] = static_cast<unsigned char>(std::lrint(sum));
      }
    }
  }
  return input;
}

inline void to_image(std::vector<Person>& people, const Frame& frame) {
  for (Person& person : people) {
    for (Keypoint& keypoint : person.keypoints) {
      if (keypoint.value <= 0) continue;
      keypoint.x = static_cast<float>(keypoint.x * frame.scale + frame.offset_x);
      keypoint.y = static_cast<float>(keypoint.y * frame.scale + frame.offset_y);
    }
  }
}

namespace detail {

// The column of each row at the least total cost; cost is (rows, columns), rows <= columns. Shortest augmenting paths
// (Crouse, 2016, doi 10.1109/TAES.2016.140952); of equal costs the choice is that of SciPy's solver.
inline std::vector<int> assign(const std::vector<double>& cost, int rows, int columns) {
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<double> u(rows, 0), v(columns, 0), length(columns);
  std::vector<int> column_of(rows, -1), row_of(columns, -1), via(columns), left(columns);
  for (int start = 0; start < rows; ++start) {
    std::fill(length.begin(), length.end(), infinity);
    for (int i = 0; i < columns; ++i) left[i] = columns - 1 - i;
    std::vector<int> visited_rows, visited_columns;
    int num_left = columns, row = start, sink = -1;
    double total = 0;
    while (sink < 0) {
      visited_rows.push_back(row);
      double lowest = infinity;
      int place = -1;
      for (int i = 0; i < num_left; ++i) {
        const int column = left[i];
        const double reached = total + cost[static_cast<std::size_t>(row) * columns + column] - u[row] - v[column];
        if (reached < length[column]) {
          length[column] = reached;
          via[column] = row;
        }
        // Of equal columns the last free one, else the first.
        if (length[column] < lowest || (length[column] == lowest && row_of[column] < 0)) {
          lowest = length[column];
          place = i;
        }
      }
      total = lowest;
      const int column = left[place];
      visited_columns.push_back(column);
      if (row_of[column] < 0) {
        sink = column;
      } else {
        row = row_of[column];
      }
      left[place] = left[--num_left];
    }
    u[start] += total;
    for (std::size_t i = 1; i < visited_rows.size(); ++i) {
      u[visited_rows[i]] += total - length[column_of[visited_rows[i]]];
    }
    for (int column : visited_columns) v[column] -= total - length[column];
    int column = sink;
    do {  // along the path, each row takes the next column
      row = via[column];
      row_of[column] = row;
      std::swap(column_of[row], column);
    } while (row != start);
  }
  return column_of;
}

// People by numbers into the lists: person -> keypoint -> number, -1 for none.
struct Matches {
  std::vector<std::vector<int>> numbers;
  std::vector<float> mean_tags;
};

inline Matches match(const std::vector<std::vector<Detection>>& lists, const Settings& settings) {
  const int num_keypoints = static_cast<int>(lists.size());
  static constexpr std::array<int, 17> coco_order = {0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16};
  std::vector<int> order = settings.keypoint_order;
  if (order.empty()) {
    for (int keypoint : coco_order) {
      if (keypoint < num_keypoints) order.push_back(keypoint);
    }
    for (int keypoint = static_cast<int>(coco_order.size()); keypoint < num_keypoints; ++keypoint) {
      order.push_back(keypoint);
    }
  }
  Matches result;
  std::vector<double> sums, counts;
  const double threshold = settings.tag_threshold, forbidden = 1e6;
  for (int keypoint : order) {
    const std::vector<Detection>& list = lists[keypoint];
    int num = 0;
    while (num < static_cast<int>(list.size()) && num < settings.max_people &&
           list[num].value > settings.detection_threshold) {
      ++num;
    }
    const int old = std::min(static_cast<int>(sums.size()), settings.max_people);
    std::vector<int> joined(num, -1);
    if (num > 0 && old > 0) {
      const int alone = settings.thresholded ? num : std::max(0, num - old);
      const double price = settings.thresholded ? std::nearbyint(threshold) * 100 : forbidden;
      const int columns = old + alone;
      std::vector<double> cost(static_cast<std::size_t>(num) * columns, price);
      std::vector<double> distance(static_cast<std::size_t>(num) * old);
      for (int i = 0; i < num; ++i) {
        for (int person = 0; person < old; ++person) {
          const double away = std::abs(static_cast<double>(list[i].tag) - sums[person] / counts[person]);
          distance[static_cast<std::size_t>(i) * old + person] = away;
          cost[static_cast<std::size_t>(i) * columns + person] =
              settings.thresholded && away >= threshold ? forbidden : std::nearbyint(away) * 100 - list[i].value;
        }
      }
      const std::vector<int> column_of = assign(cost, num, columns);
      for (int i = 0; i < num; ++i) {
        const int column = column_of[i];
        if (column < old && distance[static_cast<std::size_t>(i) * old + column] < threshold) joined[i] = column;
      }
    }
    for (int i = 0; i < num; ++i) {
      if (joined[i] < 0) {
        joined[i] = static_cast<int>(sums.size());
        sums.push_back(0);
        counts.push_back(0);
        result.numbers.emplace_back(num_keypoints, -1);
      }
      result.numbers[joined[i]][keypoint] = i;
      sums[joined[i]] += list[i].tag;
      counts[joined[i]] += 1;
    }
  }
  for (std::size_t person = 0; person < sums.size(); ++person) {
    result.mean_tags.push_back(static_cast<float>(sums[person] / counts[person]));
  }
  return result;
}

inline std::vector<Person> as_people(const std::vector<std::vector<Detection>>& lists, const Matches& matches) {
  std::vector<Person> people;
  for (const std::vector<int>& numbers : matches.numbers) {
    Person person;
    double sum = 0;
    for (std::size_t keypoint = 0; keypoint < lists.size(); ++keypoint) {
      Keypoint position;
      if (numbers[keypoint] >= 0) {
        const Detection& detection = lists[keypoint][numbers[keypoint]];
        position = {detection.x, detection.y, detection.value};
      }
      sum += position.value;
      person.keypoints.push_back(position);
    }
    person.score = static_cast<float>(sum / static_cast<double>(lists.size()));
    people.push_back(std::move(person));
  }
  return people;
}

// A map (height, width) of floats.
struct Map {
  std::vector<float> values;
  int width = 0, height = 0;
  float at(int x, int y) const { return values[static_cast<std::size_t>(y) * width + x]; }
};

// Twice as large, bilinearly between the centres of pixels.
inline Map doubled(const Map& map) {
  Map wide{std::vector<float>(map.values.size() * 2), map.width * 2, map.height};
  for (int y = 0; y < wide.height; ++y) {
    for (int x = 0; x < wide.width; ++x) {
      const int near = x / 2, far = std::clamp(near + (x % 2 ? 1 : -1), 0, map.width - 1);
      wide.values[static_cast<std::size_t>(y) * wide.width + x] = 0.75f * map.at(near, y) + 0.25f * map.at(far, y);
    }
  }
  Map large{std::vector<float>(wide.values.size() * 2), wide.width, wide.height * 2};
  for (int y = 0; y < large.height; ++y) {
    const int near = y / 2, far = std::clamp(near + (y % 2 ? 1 : -1), 0, wide.height - 1);
    for (int x = 0; x < large.width; ++x) {
      large.values[static_cast<std::size_t>(y) * large.width + x] = 0.75f * wide.at(x, near) + 0.25f * wide.at(x, far);
    }
  }
  return large;
}

inline Map map_of(const float* values, int width, int height) {
  return {std::vector<float>(values, values + static_cast<std::size_t>(width) * height), width, height};
}

// The step from the centre of a pixel towards the peak within it.
inline std::pair<float, float> step(const Map& heat, int x, int y, bool unbiased) {
  const int right = heat.width - 1, bottom = heat.height - 1;
  if (!unbiased) {  // a quarter pixel to the higher neighbour
    const bool is_right = heat.at(std::min(x + 1, right), y) > heat.at(std::max(x - 1, 0), y);
    const bool is_below = heat.at(x, std::min(y + 1, bottom)) > heat.at(x, std::max(y - 1, 0));
    return {is_right ? 0.25f : -0.25f, is_below ? 0.25f : -0.25f};
  }
  // A quadratic a + gx x + gy y + xx x^2 / 2 + yy y^2 / 2 + xy x y, fitted to the logarithms of 5 x 5 pixels by least
  // squares: on this grid the terms are orthogonal but for the constant and the squares.
  const int middle_x = std::clamp(x, 2, std::max(2, right - 2)), middle_y = std::clamp(y, 2, std::max(2, bottom - 2));
  const double peak = heat.at(x, y);
  double gx = 0, gy = 0, xx = 0, yy = 0, xy = 0;
  for (int dy = -2; dy <= 2; ++dy) {
    for (int dx = -2; dx <= 2; ++dx) {
      const double value = heat.at(std::min(middle_x + dx, right), std::min(middle_y + dy, bottom));
      const double log = std::log(std::max(value / peak, 0.01));
      gx += dx * log / 50;
      gy += dy * log / 50;
      xx += (dx * dx - 2) * log / 35;
      yy += (dy * dy - 2) * log / 35;
      xy += dx * dy * log / 100;
    }
  }
  const double determinant = xx * yy - xy * xy;
  if (!(xx < -1e-6 && determinant > -1e-6 * xx)) return {0.f, 0.f};
  const double across = (xy * gy - yy * gx) / determinant + middle_x - x;
  const double down = (xy * gx - xx * gy) / determinant + middle_y - y;
  return {static_cast<float>(std::clamp(across, -2.0, 2.0)), static_cast<float>(std::clamp(down, -2.0, 2.0))};
}

inline Detection detection_at(const Map& heat, const Map& tags, int x, int y, const Settings& settings) {
  Detection detection{x + 0.5f, y + 0.5f, heat.at(x, y), tags.at(x, y)};
  if (settings.adjust && detection.value > 0) {
    const auto [across, down] = step(heat, x, y, settings.unbiased);
    detection.x += across;
    detection.y += down;
  }
  return detection;
}

// The best maxima above the threshold; of equal pixels beside each other the first.
inline std::vector<Detection> peaks(const Map& heat, const Map& tags, const Settings& settings) {
  const int reach = settings.nms_kernel / 2;
  std::vector<std::pair<int, int>> places;
  for (int y = 0; y < heat.height; ++y) {
    for (int x = 0; x < heat.width; ++x) {
      const float value = heat.at(x, y);
      if (!(value > settings.detection_threshold)) continue;
      bool is_highest = true;
      for (int cy = std::max(0, y - reach); is_highest && cy <= std::min(heat.height - 1, y + reach); ++cy) {
        for (int cx = std::max(0, x - reach); is_highest && cx <= std::min(heat.width - 1, x + reach); ++cx) {
          is_highest = heat.at(cx, cy) <= value;
        }
      }
      if (is_highest) places.emplace_back(x, y);
    }
  }
  std::stable_sort(places.begin(), places.end(), [&heat](const auto& first, const auto& second) {
    return heat.at(first.first, first.second) > heat.at(second.first, second.second);
  });
  std::vector<std::pair<int, int>> kept;
  for (const auto& [x, y] : places) {
    const bool repeats = std::any_of(kept.begin(), kept.end(), [&, px = x, py = y](const auto& other) {
      return heat.at(other.first, other.second) == heat.at(px, py) &&
             std::max(std::abs(other.first - px), std::abs(other.second - py)) <= reach;
    });
    if (!repeats) kept.emplace_back(x, y);
    if (static_cast<int>(kept.size()) == settings.max_people) break;
  }
  std::vector<Detection> result;
  for (const auto& [x, y] : kept) {
    const Detection detection = detection_at(heat, tags, x, y, settings);
    if (detection.is_finite()) result.push_back(detection);
  }
  return result;
}

}  // namespace detail

// People from `detections` (K, M, 4) of one image: x, y, value, tag; per keypoint by falling value, 0 for no detection.
inline std::vector<Person> group_detections(const float* detections, int num_keypoints, int num_places,
                                            const Settings& settings) {
  std::vector<std::vector<Detection>> lists(num_keypoints);
  for (int keypoint = 0; keypoint < num_keypoints; ++keypoint) {
    for (int place = 0; place < num_places; ++place) {
      const float* entry = detections + (static_cast<std::size_t>(keypoint) * num_places + place) * 4;
      const Detection detection{entry[0], entry[1], entry[2], entry[3]};
      if (detection.value > 0 && detection.is_finite()) lists[keypoint].push_back(detection);
    }
  }
  const detail::Matches matches = detail::match(lists, settings);
  std::vector<Person> people = detail::as_people(lists, matches);
  for (std::size_t person = 0; settings.refine && person < people.size(); ++person) {
    for (int keypoint = 0; keypoint < num_keypoints; ++keypoint) {
      if (matches.numbers[person][keypoint] >= 0) continue;
      float best = -std::numeric_limits<float>::infinity();
      for (const Detection& entry : lists[keypoint]) {
        const float agreement = entry.value - std::nearbyint(std::abs(entry.tag - matches.mean_tags[person]));
        if (agreement > best) {
          best = agreement;
          people[person].keypoints[keypoint] = {entry.x, entry.y, entry.value};
        }
      }
    }
  }
  return people;
}

// People from the maps of one image: low (2K, height / 4, width / 4), high (K, height / 2, width / 2), for an input of
// width x height.
inline std::vector<Person> group_maps(const float* low, const float* high, int num_keypoints, int width, int height,
                                      const Settings& settings) {
  const std::size_t low_size = static_cast<std::size_t>(width / 4) * (height / 4);
  const std::size_t high_size = static_cast<std::size_t>(width / 2) * (height / 2);
  std::vector<detail::Map> heat, tags;
  std::vector<std::vector<Detection>> lists;
  for (int keypoint = 0; keypoint < num_keypoints; ++keypoint) {
    detail::Map average = detail::doubled(detail::map_of(low + keypoint * low_size, width / 4, height / 4));
    for (std::size_t i = 0; i < high_size; ++i) {
      average.values[i] = (average.values[i] + high[keypoint * high_size + i]) / 2;
    }
    const float* coarse = low + (static_cast<std::size_t>(num_keypoints) + keypoint) * low_size;
    heat.push_back(detail::doubled(average));
    tags.push_back(detail::doubled(detail::doubled(detail::map_of(coarse, width / 4, height / 4))));
    lists.push_back(detail::peaks(heat.back(), tags.back(), settings));
  }
  const detail::Matches matches = detail::match(lists, settings);
  std::vector<Person> people = detail::as_people(lists, matches);
  for (std::size_t person = 0; settings.refine && person < people.size(); ++person) {
    for (int keypoint = 0; keypoint < num_keypoints; ++keypoint) {
      if (matches.numbers[person][keypoint] >= 0) continue;
      float best = -std::numeric_limits<float>::infinity();
      std::size_t place = 0;
      for (std::size_t i = 0; i < heat[keypoint].values.size(); ++i) {
        const float away = std::abs(tags[keypoint].values[i] - matches.mean_tags[person]);
        const float agreement = heat[keypoint].values[i] - std::nearbyint(away);
        if (agreement > best) {
          best = agreement;
          place = i;
        }
      }
      const int x = static_cast<int>(place % width), y = static_cast<int>(place / width);
      const Detection found = detail::detection_at(heat[keypoint], tags[keypoint], x, y, settings);
      if (found.value > 0) people[person].keypoints[keypoint] = {found.x, found.y, found.value};
    }
  }
  return people;
}

}  // namespace litepose

#endif  // LITEPOSE_DECODE_HPP
