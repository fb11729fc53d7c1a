// The line is redrawn ten times a second at most, so that showing it costs nothing.
#include "progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

namespace opgrad {
namespace {

std::string left_text(double seconds) {
  const auto s = static_cast<long>(std::ceil(seconds));
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string numbers(const Progress& p) {
  return fmt::format("{:>{}}/{}  loss {:.4f}  accuracy {:.4f}  {:.0f} images/s  {} left", p.step,
                     std::to_string(p.steps).size(), p.steps, p.loss, p.accuracy, p.images_per_second,
                     left_text(p.seconds_left));
}

std::string bar(const Progress& p, std::int64_t width) {
  const std::int64_t full = width * p.step / p.steps;
  std::string s(static_cast<std::size_t>(width), '.');
  std::fill_n(s.begin(), full, '=');
  if (full < width) s[static_cast<std::size_t>(full)] = '>';
  return s;
}

std::int64_t columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

ProgressLine::ProgressLine() : terminal_(isatty(STDOUT_FILENO) == 1) {}

void ProgressLine::show(const Progress& p) {
  const bool last = p.step == p.steps;
  if (!terminal_) {
    // About ten lines an epoch.
    if (!last && p.step * 10 / p.steps == (p.step - 1) * 10 / p.steps) return;
    fmt::print("epoch {}/{}  {}\n", p.epoch, p.epochs, numbers(p));
    std::fflush(stdout);
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (!last && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  std::string line = fmt::format("epoch {}/{}  ", p.epoch, p.epochs);
  const std::string figures = numbers(p);
  const std::int64_t width = columns() - std::ssize(line) - std::ssize(figures) - 4;
  if (width >= 5) line += "[" + bar(p, std::min<std::int64_t>(width, 30)) + "]  ";
  fmt::print("\r{}{}\x1b[K{}", line, figures, last ? "\n" : "");
  std::fflush(stdout);
  open_ = !last;
}

void ProgressLine::finish() {
  if (open_) fmt::print("\n");
  open_ = false;
}

}  // namespace opgrad
