// Reads one image's outputs from standard input and prints its people, for test_litepose_decode.py.
#include "litepose_decode.hpp"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

int main() {
  std::string kind, matching, decoding;
  litepose::Settings settings;
  int num_keypoints = 0, first = 0, second = 0;
  std::cin >> kind >> num_keypoints >> first >> second >> settings.max_people >> settings.detection_threshold >>
      settings.tag_threshold >> settings.nms_kernel >> settings.adjust >> settings.refine >> matching >> decoding;
  settings.thresholded = matching == "thresholded";
  settings.unbiased = decoding == "unbiased";
  settings.keypoint_order.resize(num_keypoints);
  for (int& keypoint : settings.keypoint_order) std::cin >> keypoint;
  auto read = [](std::size_t size) {
    std::vector<float> values(size);
    for (float& value : values) {  // a stream does not read "nan"
      std::string word;
      std::cin >> word;
      value = std::strtof(word.c_str(), nullptr);
    }
    return values;
  };
  std::vector<litepose::Person> people;
  if (kind == "detections") {
    people = litepose::group_detections(read(static_cast<std::size_t>(num_keypoints) * first * second).data(),
                                        num_keypoints, first, settings);
  } else {
    const std::size_t size = static_cast<std::size_t>(num_keypoints) * first * second;
    const std::vector<float> low = read(size / 8), high = read(size / 4);
    people = litepose::group_maps(low.data(), high.data(), num_keypoints, first, second, settings);
  }
  if (!std::cin) return 1;
  for (const litepose::Person& person : people) {
    std::printf("%.8g", person.score);
    for (const litepose::Keypoint& keypoint : person.keypoints) {
      std::printf(" %.8g %.8g %.8g", keypoint.x, keypoint.y, keypoint.value);
    }
    std::printf("\n");
  }
}
