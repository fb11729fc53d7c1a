// A failure as a test case: plain calls that a user would write, on literal numbers.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "explain.h"

namespace opgrad::gradtests {
namespace {

constexpr std::size_t line_length = 100;

// Items between commas, on as many lines as it takes.
std::string listed(const std::vector<std::string>& items) {
  std::string out;
  std::size_t column = 40;
  for (const std::string& item : items) {
    if (!out.empty()) {
      out += ",";
      ++column;
    }
    if (!out.empty() && column + item.size() > line_length) {
      out += "\n      ";
      column = 6;
    } else if (!out.empty()) {
      out += " ";
      ++column;
    }
    out += item;
    column += item.size();
  }
  return out;
}

std::string numbers(const Numbers& v) {
  std::vector<std::string> items;
  for (const double x : v) items.push_back(fmt::format("{}", x));
  return listed(items);
}

std::string shape_text(const Shape& shape) {
  std::string out;
  for (const std::int64_t d : shape) out += fmt::format("{}{}", out.empty() ? "" : ", ", d);
  return "Shape{" + out + "}";
}

const char* type_of(DType t) {
  return dispatch(t, []<class T>() -> const char* {
    if constexpr (std::is_same_v<T, float>) return "float";
    if constexpr (std::is_same_v<T, double>) return "double";
    if constexpr (std::is_same_v<T, std::int32_t>) return "std::int32_t";
    if constexpr (std::is_same_v<T, std::int64_t>) return "std::int64_t";
    return "std::uint8_t";  // bool, too: it is cast from there
  });
}

// tensor(std::vector<double>{0.5, 1}, Shape{2})
std::string tensor_text(const Numbers& values, DType dtype, const std::string& shape) {
  const std::string t =
      fmt::format("tensor(std::vector<{}>{{{}}}, {})", type_of(dtype), numbers(values), shape);
  return dtype == DType::bool_ ? "cast(" + t + ", DType::bool_)" : t;
}

std::string quoted(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string tensors(const std::vector<std::string>& items) {
  return "std::vector<Tensor>{" + listed(items) + "}";
}

// Wide enough for another machine's rounding, narrow enough that the claimed value lies outside.
double tolerance(const Worst& w, DType dtype) {
  const double apart = std::abs(w.claimed - w.expected);
  const double rounding = dtype == DType::f32 ? 1e-5 : 1e-13;
  const double wide = std::max(8 * w.bound, rounding * (1 + std::abs(w.expected)));
  return std::isfinite(apart) ? std::max(w.bound, std::min(wide, apart / 4)) : wide;
}

}  // namespace

std::string doctest_of(const Finding& f, const Specimen& s) {
  const auto worst = worst_of(s.claimed, s.expected, s.bound);
  if (!worst) return "";
  const std::size_t own = s.first.inputs.size();
  const std::string target = worst->input < own ? fmt::format("x[{}]", worst->input) : "dy";
  const std::string name = quoted(f.name);

  std::string out = fmt::format("TEST_CASE(\"{}: {}gradient of {}, {}\") {{\n  using namespace opgrad;\n",
                                name, s.order == 2 ? "second-order " : "", target, name_of(f.dtype));
  if (f.example >= 0) out += fmt::format("  const Op* op = find_op(\"{}\");\n  REQUIRE(op);\n", name);

  std::string inputs;
  for (const Input& in : s.first.inputs) {
    const std::string t = tensor_text(in.values, in.active() ? f.dtype : in.dtype, shape_text(in.shape));
    inputs +=
        (inputs.empty() ? "" : ",") + std::string("\n      ") + (in.active() ? "variable(" + t + ")" : t);
  }
  out += "  const std::vector<Tensor> x{" + inputs + "};\n";
  if (f.example >= 0)
    out += fmt::format("  const Tensor y = op->examples()[{}].call(x);\n", f.example);
  else
    out += fmt::format("  const Tensor y = x[0];  // <== in place of x[0]: your \"{}\" of x[0]{}\n", name,
                       own > 1 ? fmt::format(" to x[{}]", own - 1) : "");

  if (s.order == 2) {
    const Gradient first = gradient(s.first, s.problem.inputs.back().values);
    std::vector<std::string> of, parts;
    for (std::size_t i = 0; i < own; ++i)
      if (first.connected[i]) {
        parts.push_back(fmt::format("reshape(g[{}], {{-1}})", of.size()));
        of.push_back(fmt::format("x[{}]", i));
      }
    out += fmt::format("  const Tensor dy = variable({});\n",
                       tensor_text(s.problem.inputs.back().values, f.dtype, "y.shape()"));
    out += fmt::format("  const std::vector<Tensor> g = vjp(y, dy, {});\n", tensors(of));
    out += fmt::format("  const Tensor first = concatenate({}, 0);\n", tensors(parts));
    out += fmt::format("  const Tensor weights = {};\n", tensor_text(s.cotangent, f.dtype, "first.shape()"));
    out += fmt::format("  const Tensor gradient = vjp(first, weights, {})[0];\n", tensors({target}));
  } else {
    out += fmt::format("  const Tensor dy = {};\n", tensor_text(s.cotangent, f.dtype, "y.shape()"));
    out += fmt::format("  const Tensor gradient = vjp(y, dy, {})[0];\n", tensors({target}));
  }

  const Shape& shape = s.problem.inputs[worst->input].shape;
  out += fmt::format("  // At {}: {} +- {:.1e} by {}; the rule gave {}.\n", index_text(shape, worst->element),
                     worst->expected, worst->bound, s.method, worst->claimed);
  // Approx allows epsilon * (1 + |value|).
  out += fmt::format("  CHECK(gradient.values<{}>()[{}] == doctest::Approx({}).epsilon({:.2g}));\n}}\n",
                     type_of(f.dtype), worst->element, worst->expected,
                     tolerance(*worst, f.dtype) / (1 + std::abs(worst->expected)));
  return out;
}

}  // namespace opgrad::gradtests
