// Architectures of one's own and words about modules, for their tests.
#pragma once
#include <string>
#include <vector>

#include "../core/random.h"
#include "../models/opgrad.h"

namespace opgrad::test {

inline std::vector<std::string> names(const Module& m) {
  std::vector<std::string> all;
  for (const auto& p : m.parameters()) all.push_back(p.name);
  return all;
}

inline Tensor noise(const Shape& shape, std::uint64_t key) {
  std::vector<float> x(static_cast<std::size_t>(shape.numel()));
  fill_normal(Key{key, 0}, 0, shape.numel(), x.data());
  return tensor(x, shape);
}

// From here to the brace after `project` there are 10 lines.
class ResidualBlock : public Layer<ResidualBlock> {
 public:
  explicit ResidualBlock(std::int64_t channels)
      : conv(add("conv", Conv2D(channels, 3, relu, {.padding = Padding::same}))),
        project(add("project", Conv2D(channels, 1))) {}
  Tensor forward(const Tensor& x, const Tensor& skip) const { return relu(conv(conv(x)) + project(skip)); }

 private:
  Conv2D conv, project;
};

class Net : public Layer<Net> {
 public:
  Tensor forward(const Tensor& x) const { return head(Flatten()(block(x, x))); }
  ResidualBlock block = add("block", ResidualBlock(2));
  Dense head = add("head", Dense(3, softmax));
};

}  // namespace opgrad::test
