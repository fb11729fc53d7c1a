#include "opgrad.h"
using namespace opgrad;

int main() {
  const std::uint64_t seed = 1;
  const Mnist mnist = load_mnist();
  Sequential net{Conv2D(32, 3, relu), MaxPool2D(2, 2),   Conv2D(64, 3, relu), MaxPool2D(2, 2),
                 Flatten(),           Dense(1024, relu), Dense(10, softmax)};
  Adam adam{{.learning_rate = 1e-3}};
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch)
    for (auto [images, labels] : batches(mnist.train, 128, shuffle(seed, epoch)))
      adam.step(cross_entropy(net(images), labels));
}
