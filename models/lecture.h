// The lecture's network: 1,668,490 parameters for images of 28 x 28 x 1.
#pragma once
#include "layers.h"

namespace opgrad {

inline Sequential lecture_network() {
  return Sequential{Conv2D(32, 3, relu), MaxPool2D(2, 2),   Conv2D(64, 3, relu), MaxPool2D(2, 2),
                    Flatten(),           Dense(1024, relu), Dense(10, softmax)};
}

}  // namespace opgrad
