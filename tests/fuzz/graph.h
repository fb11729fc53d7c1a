// A graph as plain records, so that it can be built at will, printed, and made smaller.
#pragma once
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "../../graph/parameter.h"

namespace opgrad::fuzz {

enum class What : std::uint8_t {
  leaf,
  parameter,
  alias,  // another leaf over the memory of in[0]
  number,
  slot,  // a number that is not part of the plan's key
  call,  // an example's call, by template
  node,  // a template's operation through the factory, on inputs of any shape
  cast,
  reshape,
  broadcast,
  permute,
  flip,
  slice,
  pad,
  concatenate,
  sum,
  max,
  mean,
  softmax,
  log_softmax,
  matmul,
  gather,
  conv2d,
  depthwise_conv2d,
  pool
};

// What the elements of a leaf are like: drawn from [low, high); whole numbers with many ties; with NaN,
// infinities, zeros of both signs and denormals among them; any bits (keys).
enum class Data : std::uint8_t { plain, whole, special, bits };

struct Record {
  What what = What::leaf;
  std::uint32_t choice = 0;         // of call and node: which template
  std::vector<std::uint32_t> in{};  // earlier records
  Type type{};                      // of leaves and numbers; what cast, reshape and broadcast give
  Axes a{}, b{}, c{};               // axes; or begin, end, step; or before, after, interior
  double number = 0;                // of number and slot, and pad's value
  Data data = Data::plain;
  double low = -2, high = 2;
  std::uint64_t seed = 0;  // of the elements
};

struct Graph {
  std::uint64_t seed = 0;
  std::vector<Record> records;
  std::vector<std::uint32_t> outputs;
  std::vector<std::uint32_t> held;  // steps only: what the user keeps a handle of
  bool gradients = false;           // asks for the gradients of its float outputs too
  bool step = false;                // the outputs make a loss, and parameters are updated
  bool adam = false;                // by Adam's rule, else by gradient descent
};

// One way to call a registered operation, taken from its examples.
struct Template {
  const Op* op;
  Tensor (*call)(std::span<const Tensor>);  // null: through the factory, with these attributes
  std::vector<Sample> inputs;
  std::vector<std::byte> attributes;
};
// All ways: the examples of every built-in record, and every pointwise one through the factory.
const std::vector<Template>& templates();

// What a record makes of earlier tensors. UserError where a rule refuses.
Tensor make(const Record& r, std::span<const Tensor> earlier);

// The leaf of a parameter record is a variable, or in a step a parameter's value.
struct Built {
  std::vector<Tensor> values;         // by record
  std::vector<Parameter> parameters;  // of a step
  std::vector<Tensor> variables;      // otherwise
};
Built build(const Graph& g);

// One record a line, and what is asked of the graph.
std::string to_text(const Graph& g);

// A source of random numbers that is the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  std::int64_t between(std::int64_t low, std::int64_t high) {  // both included
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low + 1)));
  }
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  bool chance(double p) { return unit() < p; }
  template <class List>
  const auto& of(const List& list) {
    return list[below(std::size(list))];
  }

 private:
  std::uint64_t state_;
};

}  // namespace opgrad::fuzz
