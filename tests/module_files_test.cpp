// A module's weights as one whole: saved, loaded, set, and told apart by the digest.
#include <doctest/doctest.h>

#include <string>

#include "../models/opgrad.h"
#include "errors.h"
#include "modules.h"
#include "scratch.h"

using namespace opgrad;
using namespace opgrad::test;

TEST_CASE("weights are saved and loaded bit for bit; the digest tells them apart") {
  const Scratch scratch;
  Sequential net{Dense(3, relu), BatchNormalization(), Dense(2)},
      other{Dense(3, relu), BatchNormalization(), Dense(2)};
  net.initialize(1);
  net.build({1, 4});
  other.initialize(2);
  other.build({1, 4});
  CHECK(net.digest() != other.digest());
  CHECK(net.digest().size() == 16);
  net.save(scratch.path("w.safetensors"));
  other.load(scratch.path("w.safetensors"));
  CHECK(net.digest() == other.digest());
  const Tensor x = noise({5, 4}, 1);
  CHECK(net(x).to_vector<float>() == other(x).to_vector<float>());
}

TEST_CASE("load lists every missing, extra and misshaped name in one error and changes nothing") {
  const Scratch scratch;
  Sequential small{Dense(3)}, net{Dense(2), Conv2D(1, 1)}, wide{Dense(2), Dense(5), Dense(5)};
  small.build({1, 4});
  small.save(scratch.path("w.safetensors"));
  wide.build({1, 4});
  const std::string before = wide.digest();
  const std::string m = message([&] { wide.load(scratch.path("w.safetensors")); });
  CHECK(contains(m, "does not hold the weights of this model"));
  CHECK(contains(m, "misshaped: dense/kernel is f32[4, 3], but must be f32[4, 2]"));
  CHECK(contains(m, "misshaped: dense/bias is f32[3], but must be f32[2]"));
  CHECK(contains(m, "missing: dense_1/kernel f32[2, 5]"));
  CHECK(contains(m, "missing: dense_2/bias f32[5]"));
  CHECK(wide.digest() == before);
  wide.save(scratch.path("wide.safetensors"));
  const std::string e = message([&] { small.load(scratch.path("wide.safetensors")); });
  CHECK(contains(e, "extra: dense_1/kernel f32[2, 5]"));
  CHECK(contains(e, "extra: dense_2/bias f32[5]"));
  CHECK(contains(message([&] { net.load(scratch.path("w.safetensors")); }),
                 "call build with the shape of the input"));
}

TEST_CASE("set_weights refuses what does not fit before it changes anything") {
  Sequential net{Dense(2)};
  net.build({1, 2});
  const std::string before = net.digest();
  CHECK(contains(message([&] {
                   net.set_weights({zeros({2, 2})});
                 }),
                 "1 tensors were given for 2 parameters"));
  CHECK(contains(message([&] {
                   net.set_weights({zeros({2, 2}), zeros({3})});
                 }),
                 "misshaped: dense/bias was given f32[3], but must be f32[2]"));
  CHECK(net.digest() == before);
}
