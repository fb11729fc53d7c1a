// custom_gradient: a view of y, cut off from y's graph, with the xs as inputs beside it for the rule.
#include "custom_gradient.h"

#include <fmt/format.h>

#include <bit>

#include "../graph/grad.h"

#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {

// A rule as a field of attributes: its address stands for it in keys.
struct Rule {
  GradientRule function;
  friend void append_words(Words& w, const Rule& r) {
    w.push_back(std::bit_cast<std::uintptr_t>(r.function));
  }
  friend std::string field_text(const Rule&) { return "a function"; }
  friend void append_refs(AttributeRefs&, const char*, Rule&) {}
};

struct CustomGradientAttributes {
  Rule rule;
  bool rows_apart;
  static constexpr auto fields() {
    return std::tuple{field("rule", &CustomGradientAttributes::rule),
                      field("rows_apart", &CustomGradientAttributes::rows_apart)};
  }
};

Result custom_gradient_shape(const Call& call) {
  if (call.arity() < 2)
    call.fail(
        "no xs were given, 1 input in all; name the tensors that the rule has gradients for: "
        "custom_gradient(y, {x}, rule)");
  if (!is_float(call.dtype(0)))
    call.fail(format("y is {} and must be f32 or f64, or it has no gradient", type_text(call, 0)));
  return {call.dtype(0), call.shape_id(0)};
}

Grads by_rule(const Tensor& y, const Tensor& dy, Wanted) {
  std::vector<Tensor> xs;
  for (int i = 1; i < y.node()->arity; ++i) xs.push_back(y.input(i));
  Grads given = y.attributes<CustomGradientAttributes>().rule.function(y, dy, xs);
  if (given.size() != xs.size())
    refuse(
        "custom_gradient", {},
        format(
            "the rule gave {} gradients for {} xs; return one for each, an empty Tensor for an x without one",
            given.size(), xs.size()));
  Grads grads{Tensor()};
  for (std::size_t i = 0; i < xs.size(); ++i) {
    if (given[i] && (given[i].dtype() != xs[i].dtype() || given[i].shape() != xs[i].shape()))
      refuse(
          "custom_gradient", {},
          format(
              "the rule gave {} as the gradient of x {}, which is {}; they must have one type: use sum_to, "
              "reshape or cast, or return an empty Tensor for an x without gradient",
              type_text(given[i]), i, type_text(xs[i])));
    grads.push_back(std::move(given[i]));
  }
  return grads;
}

using In = std::span<const Tensor>;

Grads no_rule(const Tensor&, const Tensor&, In) { return {}; }

// Asks for the gradient of a call whose rule is wrong.
void differentiate(GradientRule rule) {
  const Tensor x = variable(zeros({2, 3}));
  grad(sum(custom_gradient(x, {x}, rule)), x);
}

}  // namespace

constinit const Op records::custom_gradient_op{
    .name = "custom_gradient",
    .arity = -1,
    .traits = Traits::movement | Traits::nothrow,
    .about = "the first input's value; gradients of the others by the user's rule, none for the first",
    .shape = custom_gradient_shape,
    .forward = {},
    .backward = by_rule,
    .examples =
        [] {
          return Examples{{{sample({3, 4}, -3, 3)},
                           [](In x) {
                             return custom_gradient(log(1 + exp(x[0])), {x[0]},
                                                    [](const Tensor&, const Tensor& dy, In xs) -> Grads {
                                                      return {dy * sigmoid(xs[0])};
                                                    });
                           }},
                          {{sample({2, 3}), sample({2, 3}, 0.5, 2)}, [](In x) {
                             return custom_gradient(x[0] / x[1], {x[0], x[1]},
                                                    [](const Tensor& y, const Tensor& dy, In xs) -> Grads {
                                                      return {dy / xs[1], -dy * y / xs[1]};
                                                    });
                           }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"custom_gradient: no xs were given", [] { custom_gradient(zeros({2}), In(), no_rule); }},
              {"custom_gradient: y is i64[2] and must be f32 or f64",
               [] { custom_gradient(zeros({2}, DType::i64), {zeros({2})}, no_rule); }},
              {"custom_gradient: x 1 is an empty Tensor",
               [] {
                 custom_gradient(zeros({2}), {zeros({2}), Tensor()}, no_rule);
               }},
              {"custom_gradient: an operand is an empty Tensor",
               [] { custom_gradient(Tensor(), {zeros({2})}, no_rule); }},
              {"custom_gradient: the rule gave 2 gradients for 1 xs",
               [] { differentiate([](const Tensor&, const Tensor& dy, In) -> Grads {
                      return {dy, dy};
                    }); }},
              {"custom_gradient: the rule gave f32[3] as the gradient of x 0, which is f32[2, 3]",
               [] {
                 differentiate([](const Tensor&, const Tensor& dy, In) -> Grads { return {sum(dy, {0})}; });
               }},
              {"custom_gradient: the rule gave f64[2, 3] as the gradient of x 0, which is f32[2, 3]", [] {
                 differentiate(
                     [](const Tensor&, const Tensor& dy, In) -> Grads { return {cast(dy, DType::f64)}; });
               }}};
        },
    .attributes = &attribute_info<CustomGradientAttributes>,
    .view = [](const void*, const Shape&, const Shape&, Layout&) { return true; },
    .per_example = {.rule = [](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
      const bool apart = y.attributes<CustomGradientAttributes>().rows_apart;
      return apart ? rows_apart(y, dy, wanted, examples) : Grads{};
    }}};

Tensor custom_gradient(const Operand& operand, std::span<const Tensor> xs, GradientRule rule,
                       bool rows_apart) {
  const CallScope scope(operand.where());
  // Wanted has 64 bits, and y takes the first.
  if (xs.size() > 63)
    refuse("custom_gradient", operand.where(),
           format("{} xs were given, more than 63; concatenate some", xs.size()));
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (!xs[i]) refuse("custom_gradient", operand.where(), format("x {} is an empty Tensor", i));
  const Tensor y = detach(operand.tensor("custom_gradient"));
  std::vector<Node*> inputs{y.node()};
  for (const Tensor& x : xs) inputs.push_back(x.node());
  const CustomGradientAttributes attributes{{rule}, rows_apart};
  return make_node(records::custom_gradient_op, inputs, operand.where(), &attributes);
}

}  // namespace opgrad
