// What the two best-known gradient checkers would say of a backward rule, for comparison only. Written from
// their documented procedure and default parameters; neither is part of the tester's verdict.
#pragma once
#include "problem.h"

namespace opgrad::gradtests {

// A function of tensors with several results.
struct Subject {
  std::function<std::vector<Tensor>(std::span<const Tensor>)> f;
  std::vector<Input> inputs;
};
Subject subject_of(const Problem& p);

// The columns d(results) / d(element), results joined: [input][element] -> column; empty for inactive inputs.
using Jacobian = std::vector<std::vector<Numbers>>;

// PyTorch's gradcheck, f64: central differences with step 1e-6, every entry of the Jacobian within
// 1e-5 + 1e-3 |numeric|, and gradients of a zero cotangent exactly 0. True: it rejects.
Jacobian torch_numeric(const Subject& s);
bool torch_rejects(const Subject& s, const Jacobian& numeric);
// The same with fast_mode: one pair u, v of non-negative unit vectors for each pair of input and result,
// v'Ju within 1e-5 sum(u) sum(v) + 1e-3 |numeric|.
bool torch_fast_rejects(const Subject& s);

// JAX's check_grads in reverse mode: one direction and cotangent from a fixed seed, step 1e-4, the two inner
// products within t (1 + |numeric|) for t = 2e-3 (f32) or 1e-5 (f64).
bool jax_rejects(const Subject& s, DType dtype);

// The gradients as a function of inputs and cotangent, as gradgradcheck takes them; and with the function's
// result as the cotangent, as check_grads of order 2 does. Nothing where no gradient connects.
std::optional<Subject> torch_second(const Subject& s);
std::optional<Subject> jax_second(const Subject& s);

}  // namespace opgrad::gradtests
