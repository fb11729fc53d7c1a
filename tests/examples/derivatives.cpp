#include <cstdio>

#include "opgrad.h"
using namespace opgrad;

Tensor energy(const Tensor& x) { return square(x[0]) * x[1]; }

int main() {
  const auto show = [](const char* what, const Tensor& t) {
    std::printf("%-15s %s\n", what, to_string(t).c_str());
  };
  const Tensor x = variable(tensor({1.0, 2.0})), v = tensor({1.0, -1.0});
  const Tensor y = x * sum(x);
  show("y", y);
  show("jacobian", jacobian(y, x));           // J[i, j] = dy[i] / dx[j]
  show("jvp", jvp(y, x, v));                  // J v, without J
  show("vjp", vjp(y, v, std::vector{x})[0]);  // v J, without J
  show("hessian", hessian(energy(x), x));     // H[i, j] = d2 energy / dx[i] dx[j]
  show("hvp", hvp(energy, x, v));             // H v, without H; of a function

  // The value of y, but x gets what comes in, cut off at -1 and 1.
  const Tensor tamed =
      custom_gradient(y, {x}, [](const Tensor&, const Tensor& dy, std::span<const Tensor>) -> Grads {
        return {minimum(maximum(dy, -1), 1)};
      });
  show("custom_gradient", grad(sum(tamed * v * 3), x));

  // The gradient that each of three examples has for itself: axis 0 holds the examples.
  const Tensor w = variable(tensor({{1.0}, {1.0}})), data = tensor({{1.0, 0.0}, {0.0, 1.0}, {1.0, 1.0}});
  const Tensor losses = sum(square(matmul(data, w)), {1});
  show("by example", reshape(per_example_gradients(losses, w), {3, 2}));
}
