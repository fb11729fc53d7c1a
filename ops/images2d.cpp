// The lecture's operators on plain images of one channel, in terms of conv2d.
#include <fmt/format.h>

#include "define.h"

namespace opgrad {

using fmt::format;

namespace {

Tensor correlate(const char* name, const Operand& image, const Operand& kernel, bool full, bool turn) {
  const Tensor x = image.tensor(name), w = kernel.tensor(name);
  if (x.rank() != 2 || w.rank() != 2)
    refuse(name, image.where(),
           format("image {} and kernel {} must both have rank 2: [rows, columns]; for batches and "
                  "channels use conv2d",
                  type_text(x), type_text(w)));
  const std::int64_t rows = w.dim(0), columns = w.dim(1);
  if (rows == 0 || columns == 0)
    refuse(name, image.where(),
           format("kernel {} has no elements; it needs at least one row and one column", type_text(w)));
  if (!full && (rows > x.dim(0) || columns > x.dim(1)))
    refuse(name, image.where(),
           format("kernel {} is larger than image {}, so that nothing is left; pass full = true, or "
                  "exchange the two",
                  to_string(w.shape()), to_string(x.shape())));
  const CallScope scope(image.where());
  Window window;
  if (full) window.pads = {rows - 1, rows - 1, columns - 1, columns - 1};
  const Tensor taps = reshape(turn ? rot180(w) : w, Shape{rows, columns, 1, 1});
  const Tensor y = conv2d(reshape(x, Shape{1, x.dim(0), x.dim(1), 1}), taps, window);
  return reshape(y, Shape{y.dim(1), y.dim(2)});
}

}  // namespace

Tensor correlate2d(const Operand& image, const Operand& kernel, bool full) {
  return correlate("correlate2d", image, kernel, full, false);
}
Tensor convolve2d(const Operand& image, const Operand& kernel, bool full) {
  return correlate("convolve2d", image, kernel, full, true);
}

Tensor rot180(const Operand& kernel) {
  const Tensor w = kernel.tensor("rot180");
  if (w.rank() < 2 || w.rank() > 4)
    refuse("rot180", kernel.where(),
           format("{} has rank {}, but must be [rows, columns], [batch, rows, columns] or [rows, "
                  "columns, in, out]; use flip",
                  type_text(w), w.rank()));
  const CallScope scope(kernel.where());
  return w.rank() == 3 ? flip(w, {1, 2}) : flip(w, {0, 1});
}

}  // namespace opgrad
