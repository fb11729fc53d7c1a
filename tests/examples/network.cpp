#include <cmath>
#include <cstdio>

#include "adagrad.h"
#include "opgrad.h"
#include "swish_layer.h"
#include "warmup.h"
using namespace opgrad;

Tensor softsign(const Operand& x);

class Net : public Layer<Net> {
 public:
  Tensor forward(const Tensor& x) const { return last(softsign(second(bend(first(x))))); }

 private:
  Dense first = add("first", Dense(32));
  Swish bend = add("bend", Swish());
  Dense second = add("second", Dense(32));
  Dense last = add("last", Dense(1));
};

int main() {
  std::vector<float> x, y;
  for (int i = 0; i < 200; ++i) {
    x.push_back(static_cast<float>(i) / 50 - 2);
    y.push_back(std::sin(2 * x.back()));
  }
  const Tensor in = tensor(x, {200, 1}), out = tensor(y, {200, 1});
  const Net net;
  Adagrad adagrad(warmup_then_sqrt(0.3, 500));
  Tensor loss;
  for (int step = 0; step < 1000; ++step) loss = adagrad.step(mean(square(net(in) - out)));
  std::printf("loss %.5f, beta of the first unit %.3f\n", loss.item(),
              net.parameter("bend/beta").value()[0].item());
}
