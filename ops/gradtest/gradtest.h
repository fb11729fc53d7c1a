// The gradient tester: one call that says whether a backward rule is right, how sure that is, and, when it is
// wrong, what is wrong with it. For operations, for functions composed of them, and for whole networks.
//
// Truth comes from forward values alone: exactly, by dual numbers and by linearity, where the kernels allow
// it, and by Richardson-extrapolated differences with an error estimate. All of that in f64; f32 is compared
// with f64. Every run also falsifies itself: the gradient scaled, shifted, with an element zeroed or turned
// must be rejected by the very comparison that accepts the gradient.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../../graph/ir.h"

namespace opgrad {

struct GradtestOptions {
  std::vector<DType> dtypes{DType::f32, DType::f64};
  std::vector<int> orders{1, 2};      // 1: gradients; 2: gradients of gradients
  std::uint64_t seed = 1;             // of inputs, directions and cotangents
  int repeat = 1;                     // runs with seed, seed + 1, ...
  std::vector<int> threads{1, 2, 4};  // must give the same bits; empty: not compared
  bool explain = true;  // failures are diagnosed, shrunk and turned into a test to paste; takes longer
};

// pass; wrong: a gradient that differs from the truth, or a broken contract; inconclusive: the truth could
// not be had (noise, a kink in every direction), or the check could not have failed; missing: no backward
// rule where one is asked for, or no examples; skipped: nothing to do, for a stated reason (no_gradient).
enum class Verdict : std::uint8_t { pass, wrong, inconclusive, missing, skipped };
std::string_view name_of(Verdict);

// What one check found wrong, or could not decide.
struct GradtestFailure {
  std::string check;  // "gradient", "taylor slope", "zero cotangent", "control: scaled", ...
  Verdict verdict = Verdict::wrong;
  std::string message;    // one sentence with the numbers
  std::string example;    // "example 2 of 5, seed 1: f64[2, 3], i64[2]"
  std::string diagnosis;  // "the ratio is 2 everywhere: a factor is missing"; empty when nothing fits
  std::string minimal;    // the shrunk inputs, worst index, both values, estimated error; several lines
  std::string doctest;    // a test case ready to paste, which fails as long as the rule is wrong
};

// One operation (or function), one dtype, one order.
struct GradtestRow {
  std::string name;
  DType dtype = DType::f64;
  int order = 1;
  int cases = 0;         // examples times seeds
  double max_error = 0;  // largest difference to the truth, relative to the gradient's scale
  double bound = 0;      // the tolerance at that place, likewise; derived from the error estimate
  double power =
      0;          // the least error, as a share of an input's gradient, that would have been caught, at worst
  int kinks = 0;  // places where the one-sided slopes differ
  int controls = 0;        // wrong gradients that were tried, and rejected
  int not_applicable = 0;  // those that equal the right one
  Verdict verdict = Verdict::pass;
  std::vector<std::string> identities;  // "kernel gradient = ...: holds to 2e-16", "...: rejected"
  std::vector<std::string> skips;       // what was left out, and why
  std::vector<GradtestFailure> failures;
};

struct GradtestReport {
  std::vector<GradtestRow> rows;
  std::uint64_t seed = 1;
  double seconds = 0;

  bool passed() const;    // there are rows, and each is passed or skipped
  int exit_code() const;  // 0 pass, 1 wrong gradient, 2 inconclusive, 3 missing rule or no examples
  // The report as text: one line per row, then the failures in full.
  std::string table() const;
  std::string markdown() const;
  // {"seed": ..., "seconds": ..., "operations": [{"name", "dtype", "order", "cases", "max_error", "bound",
  // "power", "verdict", ...}]}
  std::string json() const;
  std::string junit() const;
};

// The record's examples (ops/define.h: sample, integers), each drawn anew from every seed.
GradtestReport gradtest(const Op& op, const GradtestOptions& options = {});
// The registered operation of that name; UserError with names that are near when there is none.
GradtestReport gradtest(std::string_view name, const GradtestOptions& options = {});
// All registered operations whose name matches the regular expression (ECMAScript, the whole name); those
// made by the engine alone are left out. UserError when none matches.
GradtestReport gradtest_matching(const std::string& expression, const GradtestOptions& options = {});

// A function of tensors, at numbers drawn for `inputs`. It must be a pure function of them.
using GradtestFunction = std::function<Tensor(std::span<const Tensor>)>;
GradtestReport gradtest(std::string name, const GradtestFunction& f, std::vector<Sample> inputs,
                        const GradtestOptions& options = {});

// The graph behind y as a function of xs, at their present values, in f64 whatever their type; what does not
// depend on xs (random numbers, too) stays as it is. Without xs: of every trainable parameter behind y. So
// `gradtest("my network", loss)` tests the gradient of every weight. Second order too, by random directions.
GradtestReport gradtest(std::string name, const Tensor& y, std::span<const Tensor> xs,
                        const GradtestOptions& options = {});
GradtestReport gradtest(std::string name, const Tensor& y, const GradtestOptions& options = {});

}  // namespace opgrad
