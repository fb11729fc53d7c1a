// Bad calls by the thousand: what the examples of a record show of its calls, with inputs and attributes
// replaced by wrong ones. It knows no operation by name; it walks whatever records it is given.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "../graph/scope.h"
#include "../ops/ops.h"
#include "nodes_behind.h"

namespace opgrad::test {

// A call by the types of its inputs alone; an input without a type is an empty Tensor. It goes to the factory
// with these attributes, or through the public function that an example calls.
struct Attempt {
  const Op* op = nullptr;
  std::vector<std::optional<Type>> in;
  std::vector<std::byte> attributes{};
  Tensor (*call)(std::span<const Tensor>) = nullptr;

  AttributeRefs refs() {
    return op->attributes && !call ? op->attributes->refs(attributes.data()) : AttributeRefs{};
  }
};

inline std::string text_of(const std::optional<Type>& t) { return t ? to_string(*t) : "an empty Tensor"; }

// "conv2d(f32[1, 5, 4, 2], f32[3, 2, 2, 3]; strides=[1, 1])"; distinct calls have distinct texts.
inline std::string text_of(const Attempt& a) {
  std::string s = std::string(a.op->name) + (a.call ? " by its example" : "") + "(";
  for (std::size_t i = 0; i < a.in.size(); ++i) s += (i ? ", " : "") + text_of(a.in[i]);
  if (a.op->attributes && !a.call) s += "; " + a.op->attributes->text(a.attributes.data());
  return s + ")";
}

// ------------------------------------------------------------------------------------------------ sound
// calls

// A leaf of zeros: an index 0 lies in every range that is not empty.
inline Tensor zero_leaf(const Type& t) {
  const std::vector<std::byte> zeros(static_cast<std::size_t>(t.shape.numel()) * size_of(t.dtype));
  return tensor_from_bytes(zeros.data(), t.shape.numel(), t.dtype, t.shape, {});
}

// What the record's examples make of it, and the examples themselves. A record of the engine, which has no
// examples, gets two small matrices.
inline std::vector<Attempt> sound_calls(const Op& op) {
  std::vector<Attempt> all;
  if (!op.examples) {
    all.push_back(
        {.op = &op, .in = {static_cast<std::size_t>(std::max(op.arity, 0)), Type{DType::f32, {2, 3}}}});
    return all;
  }
  for (const Example& e : op.examples()) {
    Attempt whole{.op = &op, .in = {}, .call = e.call};
    std::vector<Tensor> xs;
    for (const Sample& s : e.inputs) {
      whole.in.push_back(Type{s.dtype == DType::f64 ? DType::f32 : s.dtype, s.shape});
      xs.push_back(zero_leaf(*whole.in.back()));
    }
    for (const Tensor& node : nodes_behind(e.call(xs))) {
      const Node* const n = node.node();
      if (std::string_view(n->op->name) != op.name) continue;
      Attempt a{.op = &op, .in = {}};
      for (const Node* x : n->inputs()) a.in.push_back(Type{x->dtype, shape_of(x->shape)});
      if (op.attributes) {
        const auto* bytes = static_cast<const std::byte*>(n->attributes());
        a.attributes.assign(bytes, bytes + op.attributes->size);
      }
      all.push_back(std::move(a));
    }
    all.push_back(std::move(whole));
  }
  return all;
}

// ------------------------------------------------------------------------------------------------ changes

// One operand replaced: inputs first, then the numbers of the attributes in order, then their count.
using Replacement = std::variant<std::optional<Type>, std::int64_t, double, bool, DType, Shape, std::size_t>;
struct Change {
  std::size_t operand = 0;
  Replacement to;
};

// "input 1", "strides", "arity".
inline std::string operand_name(Attempt& a, std::size_t operand) {
  if (operand < a.in.size()) return "input " + std::to_string(operand);
  const AttributeRefs refs = a.refs();
  return operand < a.in.size() + refs.size() ? refs[operand - a.in.size()].field : "arity";
}

inline void add_shape(std::vector<Shape>& to, const std::vector<std::int64_t>& dims) {
  std::int64_t size = 1;
  bool legal = dims.size() <= max_rank;
  for (const std::int64_t d : dims)
    legal = legal && !(d > 0 && (__builtin_mul_overflow(size, d, &size) || size > std::int64_t{1} << 56));
  if (legal) to.emplace_back(std::span(dims));
}

// One axis less, one more, each size changed, two axes exchanged: those of them that a Shape admits.
inline std::vector<Shape> other_shapes(const Shape& shape) {
  std::vector<Shape> all;
  const std::vector<std::int64_t> dims(shape.begin(), shape.end());
  for (std::size_t i = 0; i <= dims.size(); ++i) {
    for (const std::int64_t n : {1, 2}) {
      auto more = dims;
      more.insert(more.begin() + static_cast<std::ptrdiff_t>(i), n);
      add_shape(all, more);
    }
    if (i == dims.size()) break;
    auto less = dims;
    less.erase(less.begin() + static_cast<std::ptrdiff_t>(i));
    add_shape(all, less);
    for (const std::int64_t n :
         {std::int64_t{0}, std::int64_t{1}, dims[i] + 1, std::int64_t{1} << 31, std::int64_t{1} << 40}) {
      auto other = dims;
      other[i] = n;
      if (n != dims[i]) add_shape(all, other);
    }
    for (std::size_t j = 0; j < i; ++j) {
      auto other = dims;
      std::swap(other[i], other[j]);
      if (dims[i] != dims[j]) add_shape(all, other);
    }
  }
  return all;
}

inline std::vector<DType> other_dtypes(DType t) {
  std::vector<DType> all;
  for (int i = 0; i < dtype_count; ++i)
    if (static_cast<DType>(i) != t) all.push_back(static_cast<DType>(i));
  return all;
}

inline std::vector<Replacement> replacements(const std::optional<Type>& t) {
  std::vector<Replacement> all;
  if (!t) return all;
  for (const Shape& s : other_shapes(t->shape)) all.emplace_back(std::optional(Type{t->dtype, s}));
  for (const DType d : other_dtypes(t->dtype)) all.emplace_back(std::optional(Type{d, t->shape}));
  all.emplace_back(std::optional<Type>());
  return all;
}

inline std::vector<Replacement> replacements(const AttributeRef& r) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  std::vector<Replacement> all;
  if (r.integer)
    for (const std::int64_t v :
         {std::int64_t{-1}, std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, std::int64_t{7},
          std::int64_t{1} << 31, std::int64_t{1} << 62, INT64_MIN, INT64_MAX})
      if (v != *r.integer) all.emplace_back(v);
  if (r.real)
    for (const double v : {std::nan(""), inf, -inf, -1.0, 0.0, 0.25, 7.0, 1e300})
      if (v != *r.real) all.emplace_back(v);
  if (r.flag) all.emplace_back(!*r.flag);
  if (r.dtype)
    for (const DType d : other_dtypes(*r.dtype)) all.emplace_back(d);
  if (r.shape)
    for (const Shape& s : other_shapes(*r.shape)) all.emplace_back(s);
  return all;
}

// Every change of one operand of the call; the last operand is their number, for the factory alone.
inline std::size_t operand_count(Attempt& a) { return a.in.size() + a.refs().size() + (a.call ? 0 : 1); }
inline std::vector<Change> changes(Attempt& a, std::size_t operand) {
  std::vector<Replacement> to;
  const AttributeRefs refs = a.refs();
  if (operand < a.in.size()) {
    to = replacements(a.in[operand]);
  } else if (operand < a.in.size() + refs.size()) {
    to = replacements(refs[operand - a.in.size()]);
  } else {
    for (const std::size_t n : {std::size_t{0}, a.in.size() + 1, std::size_t{65}, std::size_t{300}})
      if (n != a.in.size()) to.emplace_back(n);
    if (a.in.size() > 1) to.emplace_back(a.in.size() - 1);
  }
  std::vector<Change> all;
  for (Replacement& r : to) all.push_back({operand, std::move(r)});
  return all;
}

inline void apply(Attempt& a, const Change& c) {
  if (const auto* count = std::get_if<std::size_t>(&c.to)) {
    a.in.resize(*count, a.in.empty() ? Type{DType::f32, {2, 3}} : a.in.back());
  } else if (const auto* type = std::get_if<std::optional<Type>>(&c.to)) {
    a.in[c.operand] = *type;
  } else {
    const AttributeRef r = a.refs()[c.operand - a.in.size()];
    if (r.integer) *r.integer = std::get<std::int64_t>(c.to);
    if (r.real) *r.real = std::get<double>(c.to);
    if (r.flag) *r.flag = std::get<bool>(c.to);
    if (r.dtype) *r.dtype = std::get<DType>(c.to);
    if (r.shape) *r.shape = std::get<Shape>(c.to);
  }
}

// A change of the call drawn at random, of the number of inputs only if `of_arity`; nothing where there is
// none.
inline std::optional<Change> draw_change(Attempt& a, std::mt19937_64& random, bool of_arity) {
  const std::size_t operands = operand_count(a) - (a.call || of_arity ? 0 : 1);
  if (operands == 0) return {};
  const std::vector<Change> all = changes(a, random() % operands);
  if (all.empty()) return {};
  return all[random() % all.size()];
}

// ------------------------------------------------------------------------------------------------ texts

// `word` stands in the text, and not as a part of a longer word or number.
inline bool has_word(std::string_view text, std::string_view word) {
  const auto inside = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const auto end = at + word.size();
    if ((at == 0 || !inside(text[at - 1]) || !inside(word.front())) &&
        (end == text.size() || !inside(text[end])))
      return true;
  }
  return false;
}

// The text speaks of what was put in: a number by its digits, a type by itself, its shape, its rank, its
// count of elements, or the element type or size that is new. An example may turn or stretch what it is given
// before the call that is refused, so there any size counts.
inline bool speaks_of(std::string_view text, const std::optional<Type>& to, const std::optional<Type>& before,
                      bool by_example) {
  if (!to) return has_word(text, "empty");
  const Shape& shape = to->shape;
  const auto number = [&](const char* pattern_before, std::int64_t n, const char* pattern_after) {
    return has_word(text, pattern_before + std::to_string(n) + pattern_after);
  };
  if (text.find(to_string(shape)) != text.npos) return true;
  if (before && to->dtype != before->dtype && has_word(text, name_of(to->dtype))) return true;
  if (number("rank ", shape.rank(), "") || number("", shape.rank(), " axes")) return true;
  if (number("", shape.numel(), " elements")) return true;
  for (int i = 0; i < shape.rank(); ++i) {
    const bool is_new = before && shape.rank() == before->shape.rank() && shape[i] != before->shape[i];
    if ((by_example || is_new) && number("", shape[i], "")) return true;
  }
  return false;
}
inline bool speaks_of(std::string_view text, const AttributeRef& r) {
  return has_word(text, r.integer ? field_text(*r.integer)
                        : r.real  ? field_text(*r.real)
                        : r.flag  ? field_text(*r.flag)
                        : r.dtype ? field_text(*r.dtype)
                                  : field_text(*r.shape));
}

// The text speaks of something in which the call differs from the sound one that it was made from.
inline bool speaks_of(std::string_view text, Attempt& bad, Attempt& sound) {
  if (bad.in.size() != sound.in.size() && has_word(text, std::to_string(bad.in.size()))) return true;
  for (std::size_t i = 0; i < std::min(bad.in.size(), sound.in.size()); ++i)
    if (bad.in[i] != sound.in[i] && speaks_of(text, bad.in[i], sound.in[i], bad.call != nullptr)) return true;
  const AttributeRefs now = bad.refs(), before = sound.refs();
  for (std::size_t i = 0; i < now.size(); ++i) {
    const auto same = [&](auto* x, auto* y) { return !x || *x == *y; };
    const AttributeRef &x = now[i], &y = before[i];
    if (!(same(x.integer, y.integer) && same(x.real, y.real) && same(x.flag, y.flag) &&
          same(x.dtype, y.dtype) && same(x.shape, y.shape)) &&
        speaks_of(text, x))
      return true;
  }
  return false;
}

}  // namespace opgrad::test
