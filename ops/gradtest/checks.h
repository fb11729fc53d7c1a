// The checks of one case, each a function of its own that writes what it found into a row.
#pragma once
#include <array>
#include <map>
#include <string>

#include "compare.h"

namespace opgrad::gradtests {

// One example (or function) at one seed.
struct Case {
  const Op* op = nullptr;  // null for functions that are no record
  std::string name;
  int example = -1;
  std::string label;  // "example 1 of 3, seed 1: f64[2, 3]"
  Problem problem;
  std::uint64_t seed = 1;
  bool first_seed = true;   // checks that do not depend on numbers run once
  bool may_vanish = false;  // a gradient of zero is no finding: other draws see more
  const GradtestOptions* options = nullptr;
};

// The problem of one order with the truth about it; made once, used for f64 and f32.
struct Judged {
  int order = 1;
  Problem problem;    // the case's, or its derived problem
  Numbers cotangent;  // of the problem's result
  Truth truth;
  Gradient claimed;  // in f64
};

// Why the record is exempt from a check, counted among the row's skips; false when it is not.
bool exempt(GradtestRow& row, const Op* op, std::string_view check);
void fail(GradtestRow& row, const Case& c, Verdict verdict, std::string check, std::string message);

// The backward rule in this float type against the truth, and every legal control against it. `applied`
// counts, by kind, the controls that were legal and those that changed something.
struct Applied {
  int legal = 0, changed = 0;
};
void check_gradient(GradtestRow& row, const Case& c, const Judged& j, DType dtype, bool first_order_right,
                    std::map<std::string, Applied>& applied);
// Each row of the Jacobian by its own cotangent; small problems only.
void check_jacobian(GradtestRow& row, const Case& c, const Judged& j);
// |f(x + h v) - f(x) - h g.v| falls like h^2; with the second-order term, like h^3.
void check_taylor(GradtestRow& row, const Case& c, int order);
// <u, H v> = <v, H u>.
void check_symmetry(GradtestRow& row, const Case& c, const Problem& derived, const Truth& second);
// Zero cotangents, unchanged inputs, views, sizes 0, rank 0, repeated operands, accumulation, threads.
// Of large functions the first two only.
void check_contracts(GradtestRow& row, const Case& c, bool small);
// Inputs full of ties, and the conventions that the record states.
void check_ties(GradtestRow& row, const Case& c);
void check_second_ties(GradtestRow& row, const Case& c);
void check_conventions(GradtestRow& row, const Op& op);
// What the record says that the gradient equals, and what it says is no such thing.
void check_identities(GradtestRow& row, const Case& c);

// The same bits, any NaN equal to any NaN.
bool same_bits(const Numbers& a, const Numbers& b);
// The problem with every axis of size `from` made `to`, with new numbers; nothing where the function refuses.
std::optional<Problem> resized(const Problem& p, std::int64_t from, std::int64_t to, std::uint64_t seed);

}  // namespace opgrad::gradtests
