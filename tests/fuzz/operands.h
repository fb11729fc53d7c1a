// A graph being drawn: its records so far, and operands of wanted types out of them.
#pragma once
#include <algorithm>
#include <map>
#include <string_view>

#include "../../graph/program.h"
#include "../../ops/ops.h"
#include "graph.h"

namespace opgrad::fuzz {

inline constexpr DType f32 = DType::f32, f64 = DType::f64;

class Operands {
 protected:
  Operands(std::uint64_t seed, double large) : random_(seed) {
    g_.seed = seed;
    large_ = random_.chance(large);
    special_ = random_.chance(0.15) ? 0.3 : 0;
    most_ = large_ ? 60000 : 3000;
    constexpr std::int64_t small[] = {1, 2, 2, 3, 3, 4, 5, 7, 8, 16, 17};
    for (int i = 0; i < 3; ++i) sizes_.push_back(random_.of(small));
    if (random_.chance(0.05)) sizes_[0] = 0;
    if (random_.chance(0.2)) sizes_[0] = random_.between(16, 20);  // enough rows for row groups
    if (large_) sizes_ = {random_.between(90, 260), random_.between(60, 200), 2};
    main_ = random_.chance(0.12) ? f64 : f32;
    g_.step = random_.chance(0.3);
    g_.adam = random_.chance(0.5);
    g_.gradients = !g_.step && random_.chance(0.5);
  }

  using Id = std::uint32_t;
  static constexpr Id none = no_index;

  // ---------------------------------------------------------------------------------------------- records

  // Adds the record; none where it is refused or too large.
  Id add(Record r) {
    try {
      Tensor t = make(r, values_);
      if (t.numel() > most_) return none;
      values_.push_back(std::move(t));
    } catch (const UserError&) {
      return none;
    }
    for (const Id i : r.in) used_[i] = true;
    g_.records.push_back(std::move(r));
    used_.push_back(false);
    return static_cast<Id>(values_.size() - 1);
  }
  Id add(What what, std::vector<Id> in, Type type = {}) {
    if (std::ranges::find(in, none) != in.end()) return none;
    return add(Record{.what = what, .in = std::move(in), .type = std::move(type)});
  }
  Id add(What what, Id x, const Axes& a, const Axes& b = {}, const Axes& c = {}) {
    if (x == none) return none;
    return add(Record{.what = what, .in = {x}, .a = a, .b = b, .c = c});
  }

  Id leaf(const Type& type, bool parameter = false, double low = -2, double high = 2) {
    Record r{.what = parameter && is_float(type.dtype) ? What::parameter : What::leaf, .type = type};
    r.low = low, r.high = high;
    r.data = random_.chance(special_) ? Data::special : random_.chance(0.25) ? Data::whole : Data::plain;
    r.seed = random_.next();
    return add(std::move(r));
  }

  Id number(const Type& type) {
    constexpr double all[] = {1, 0, -0.0, 2, -1, 0.5, 3, 0.1, 1.5, -7};
    const What what = random_.chance(0.25) ? What::slot : What::number;
    Record r{.what = what, .type = type};
    r.number = is_float(type.dtype)         ? random_.of(all)
               : type.dtype == DType::bool_ ? static_cast<double>(random_.below(2))
                                            : static_cast<double>(random_.below(4));
    return add(std::move(r));
  }

  // ---------------------------------------------------------------------------------------------- operands

  Shape drawn_shape() {
    std::vector<std::int64_t> dims(random_.below(10) == 0 ? 0 : random_.below(4) + (large_ ? 1 : 0));
    for (std::int64_t& d : dims) d = random_.chance(0.1) ? 1 : random_.of(sizes_);
    std::int64_t numel = 1;
    for (const std::int64_t d : dims) numel *= d;
    if (numel > most_) dims.resize(large_ ? 2 : 1);
    return Shape(std::span<const std::int64_t>(dims));
  }

  Id any() {
    const auto n = static_cast<Id>(values_.size());
    if (n == 0) return leaf({main_, Shape{}});  // what was drawn before was too large
    if (random_.chance(0.3))
      for (Id i = n; i-- > 0;)
        if (!used_[i]) return i;
    // New values are likelier, so that chains grow; old ones are used twice now and then.
    return random_.chance(0.5) ? n - 1 - static_cast<Id>(random_.below(std::min<Id>(n, 3)))
                               : static_cast<Id>(random_.below(n));
  }
  Id any(auto&& fits) {
    std::vector<Id> all;
    for (Id i = 0; i < values_.size(); ++i)
      if (fits(values_[i])) all.push_back(i);
    if (all.empty()) return none;
    return random_.chance(0.4) ? all.back() : random_.of(all);
  }
  Id any_float() {
    const Id x = any([](const Tensor& t) { return is_float(t.dtype()); });
    return x != none ? x : leaf({main_, drawn_shape()});
  }
  Id any_of_rank(int least) {
    const Id x = any([&](const Tensor& t) { return t.rank() >= least; });
    return x != none ? x : leaf({main_, Shape{3, 4, 2}});
  }

  Id casted(Id x, DType dtype) {
    return x == none || values_[x].dtype() == dtype ? x : add(What::cast, {x}, {dtype, {}});
  }

  static bool broadcasts(const Shape& from, const Shape& to) {
    if (from.rank() > to.rank()) return false;
    for (int i = 1; i <= from.rank(); ++i)
      if (from.dim(-i) != 1 && from.dim(-i) != to.dim(-i)) return false;
    return true;
  }

  // x's elements, some of them or some more, in this shape: through views wherever possible.
  Id shaped(Id x, const Shape& to) {
    if (x == none) return none;
    const Shape from = values_[x].shape();
    if (from == to) return x;
    if (from.numel() == to.numel()) return add(What::reshape, {x}, {f32, to});
    if (broadcasts(from, to)) return add(What::broadcast, {x}, {f32, to});
    const Id flat = from.rank() == 1 ? x : add(What::reshape, {x}, {f32, Shape{from.numel()}});
    if (from.numel() > to.numel()) {
      const std::int64_t step = to.numel() && from.numel() / to.numel() > 1 && random_.chance(0.5) ? 2 : 1;
      const std::int64_t room = from.numel() - to.numel() * step,
                         begin = room > 0 ? random_.between(0, room) : 0;
      const Id part = add(What::slice, flat, {begin}, {begin + to.numel() * step}, {step});
      return part == none ? none : add(What::reshape, {part}, {f32, to});
    }
    const Id more = add(What::pad, flat, {0}, {to.numel() - from.numel()}, {0});
    return more == none ? none : add(What::reshape, {more}, {f32, to});
  }

  // An operand of this type: what is there already, a number, a new leaf, or something brought to it.
  Id operand(const Type& type) {
    const double how = random_.unit();
    if (how < 0.45) {
      const Id x = any([&](const Tensor& t) { return t.dtype() == type.dtype && t.shape() == type.shape; });
      if (x != none) return x;
    }
    if (how < 0.6) return number(type);
    if (how < 0.72) return leaf(type, random_.chance(0.5));
    return shaped(casted(any(), type.dtype), type.shape);
  }

  // Integers in [low, high): indices.
  Id indices(const Type& type, double low, double high) {
    // Now and then one is out of range, and the kernel refuses.
    if (random_.chance(0.7)) return leaf(type, false, low, random_.chance(0.02) ? high + 1 : high);
    const Id x = shaped(casted(any(), type.dtype), type.shape);
    if (x == none || type.dtype == DType::bool_) return x;
    const Id least = number_of(type, low), most = number_of(type, high - 1);
    return by_name("minimum", {by_name("maximum", {x, least}), most});
  }
  Id number_of(const Type& type, double value) {
    Record r{.what = What::number, .type = type};
    r.number = value;
    return add(std::move(r));
  }

  // The templates of each operation.
  struct Choices {
    std::vector<std::vector<Id>> by_op, pointwise;
    std::map<std::string_view, Id> factory;
    Choices() {
      std::map<const Op*, std::vector<Id>> calls, nodes;
      for (Id i = 0; i < templates().size(); ++i) {
        const Template& t = templates()[i];
        calls[t.op].push_back(i);
        if (!t.call) nodes[t.op].push_back(i), factory[t.op->name] = i;
      }
      // By first template, not by address, so that a seed means the same in every process.
      for (auto* lists : {&calls, &nodes}) {
        auto& to = lists == &calls ? by_op : pointwise;
        for (auto& [op, list] : *lists) to.push_back(list);
        std::ranges::sort(to);
      }
    }
  };
  static const Choices& choices() {
    static const auto& all = *new Choices;
    return all;
  }
  Id by_name(std::string_view op, std::vector<Id> in) {
    if (std::ranges::find(in, none) != in.end()) return none;
    return add(Record{.what = What::node, .choice = choices().factory.at(op), .in = std::move(in)});
  }

  Random random_;
  Graph g_;
  std::vector<Tensor> values_;
  std::vector<bool> used_;
  std::vector<std::int64_t> sizes_;
  std::int64_t most_;
  double special_;
  bool large_;
  DType main_;
};

}  // namespace opgrad::fuzz
