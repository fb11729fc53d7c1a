// How far a training run is, on a terminal as one line that moves, else as plain lines.
#pragma once
#include <chrono>

#include "../train.h"

namespace opgrad {

class ProgressLine {
 public:
  ProgressLine();
  void show(const Progress& progress);
  // Ends a line that is still moving.
  void finish();

 private:
  bool terminal_;
  bool open_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace opgrad
