// Drawing graphs: each record is tried as it is drawn, and dropped where a rule refuses it.
#include "draw.h"

#include <algorithm>

#include "operands.h"

namespace opgrad::fuzz {
namespace {

class Drawing : Operands {
 public:
  Drawing(std::uint64_t seed, double large) : Operands(seed, large) {}

  Graph run() {
    leaf({main_, drawn_shape()}, g_.step || g_.gradients);
    if (random_.chance(0.7)) leaf({main_, drawn_shape()}, random_.chance(0.5));
    const auto target = g_.records.size() + static_cast<std::size_t>(random_.between(3, large_ ? 8 : 22));
    for (int tries = 0; g_.records.size() < target && tries < 200; ++tries) one();
    outputs();
    return std::move(g_);
  }

 private:
  DType under_test(DType of_sample) { return of_sample == f64 ? main_ : of_sample; }

  // An operation as an example calls it, on types of the example.
  Id example() {
    const Id choice = random_.of(random_.of(choices().by_op));
    const Template& t = templates()[choice];
    if (!t.call) return pointwise(choice);
    std::vector<Id> in;
    for (const Sample& s : t.inputs) {
      const Type type{under_test(s.dtype), s.shape};
      const bool key = std::string_view(t.op->name).starts_with("random_");
      Id x = none;
      if (key && random_.chance(0.4))
        x = any([&](const Tensor& y) { return y.dtype() == type.dtype && y.shape() == type.shape; });
      if (x != none) {
        in.push_back(x);
        continue;
      }
      if (key)
        x = add(Record{.what = What::leaf, .type = type, .data = Data::bits, .seed = random_.below(3)});
      else if (is_float(type.dtype) || type.dtype == DType::bool_)
        x = random_.chance(0.4) ? leaf(type, random_.chance(0.5), s.low, s.high) : operand(type);
      else
        x = indices(type, s.low, s.high);
      if (x == none) return none;
      in.push_back(x);
    }
    return add(Record{.what = What::call, .choice = choice, .in = std::move(in)});
  }

  // A pointwise operation on tensors of any shape.
  Id pointwise(Id choice) {
    const Template& t = templates()[choice];
    std::vector<Id> in;
    Shape shape;
    bool same_types = true;
    for (const Sample& s : t.inputs) same_types &= s.dtype == t.inputs[0].dtype;
    DType dtype = main_;
    for (std::size_t k = 0; k < t.inputs.size(); ++k) {
      const DType wanted = t.inputs[k].dtype;
      if (k == 0) {
        Id x = is_float(wanted) && same_types && random_.chance(0.15) ? any() : any_float();
        if (!is_float(wanted)) x = casted(any(), wanted);
        if (x == none) return none;
        in.push_back(x);
        shape = values_[x].shape();
        if (same_types || is_float(wanted)) dtype = values_[x].dtype();
      } else {
        const DType d = same_types || is_float(wanted) ? dtype : wanted;
        in.push_back(random_.chance(0.1) && values_[in[0]].dtype() == d ? in[0] : operand({d, shape}));
        if (in.back() == none) return none;
      }
    }
    if (t.inputs.size() > 1 && random_.chance(0.3) && values_[in[0]].dtype() == values_[in[1]].dtype())
      std::swap(in[0], in[1]);
    return add(Record{.what = What::node, .choice = choice, .in = std::move(in)});
  }

  Axes some_axes(int rank, double p) {
    Axes axes;
    for (int i = 0; i < rank; ++i)
      if (random_.chance(p)) axes.push_back(i);
    return axes;
  }

  Id view() {
    const Id x = any();
    const Shape s = values_[x].shape();
    const int rank = s.rank();
    switch (random_.below(6)) {
      case 0: {
        Axes order;
        for (int i = 0; i < rank; ++i) order.push_back(i);
        for (int i = rank; i > 1; --i)
          std::swap(order[i - 1], order[static_cast<int>(random_.below(static_cast<std::uint64_t>(i)))]);
        // Now and then the way back too.
        const Id y = add(What::permute, x, order);
        if (y == none || !random_.chance(0.3)) return y;
        Axes back = order;
        for (int i = 0; i < rank; ++i) back[static_cast<int>(order[i])] = i;
        return add(What::permute, y, back);
      }
      case 1:
        return rank ? add(What::flip, x, some_axes(rank, 0.6)) : none;
      case 2: {
        Axes begin, end, step;
        if (rank > 0 && random_.chance(0.25)) {  // the first half of the elements, which lie side by side
          for (int i = 0; i < rank; ++i) {
            begin.push_back(0);
            end.push_back(i == 0 ? s[i] / 2 : s[i]);
            step.push_back(1);
          }
          return add(What::slice, x, begin, end, step);
        }
        for (int i = 0; i < rank; ++i) {
          const bool cut = s[i] > 1 && random_.chance(0.6);
          begin.push_back(cut ? random_.between(0, s[i] - 1) : 0);
          end.push_back(cut ? random_.between(begin[i] + (random_.chance(0.03) ? 0 : 1), s[i]) : s[i]);
          step.push_back(random_.chance(0.3) ? 2 : 1);
        }
        return rank ? add(What::slice, x, begin, end, step) : none;
      }
      case 3: {
        std::vector<std::int64_t> dims(s.begin(), s.end());
        if (rank < 4) dims.insert(dims.begin() + random_.between(0, rank), 1);
        std::vector<std::int64_t> merged = dims;
        if (rank >= 2 && random_.chance(0.6)) {
          merged.assign(s.begin(), s.end());
          const auto at = static_cast<std::size_t>(random_.between(0, rank - 2));
          merged[at] *= merged[at + 1];
          merged.erase(merged.begin() + static_cast<std::ptrdiff_t>(at) + 1);
        }
        return add(What::reshape, {x}, {f32, Shape(std::span<const std::int64_t>(merged))});
      }
      case 4: {
        std::vector<std::int64_t> dims(s.begin(), s.end());
        for (std::int64_t& d : dims)
          if (d == 1) d = random_.of(sizes_);
        if (rank < 4 && random_.chance(0.7)) dims.insert(dims.begin(), random_.of(sizes_));
        std::int64_t numel = 1;
        for (const std::int64_t d : dims) numel *= d;
        return numel <= most_ ? add(What::broadcast, {x}, {f32, Shape(std::span<const std::int64_t>(dims))})
                              : none;
      }
      default: {
        if (rank == 0) return none;
        Axes before, after, inside;
        for (int i = 0; i < rank; ++i) {
          before.push_back(random_.between(0, 1));
          after.push_back(random_.between(0, 1));
          inside.push_back(random_.chance(0.2));
        }
        return add(What::pad, x, before, after, inside);
      }
    }
  }

  Id fold() {
    constexpr What kinds[] = {What::sum, What::sum, What::max, What::mean};
    const What what = random_.of(kinds);
    const Id x = what == What::sum ? any() : any_float();
    return add(what, x, some_axes(values_[x].rank(), 0.5), random_.chance(0.5) ? Axes{1} : Axes{});
  }

  Shape image(std::int64_t channels) {
    const std::int64_t batch = random_.chance(0.5) ? random_.between(16, 18) : random_.between(1, 3);
    return {batch, random_.between(3, 6), random_.between(3, 6), channels};
  }

  // A convolution, and now and then what follows it in a network.
  Id layer() {
    const bool depthwise = random_.chance(0.3);
    const std::int64_t channels = random_.between(1, 3), k = random_.between(1, 3),
                       kernels = random_.between(1, 4), filters = depthwise ? channels * kernels : kernels;
    const Id x = random_.chance(0.5) ? leaf({main_, image(channels)}) : operand({main_, image(channels)});
    const Id w = leaf({main_, Shape{k, k, channels, kernels}}, random_.chance(0.5));
    if (x == none || w == none) return none;
    Id y = add(Record{.what = depthwise ? What::depthwise_conv2d : What::conv2d,
                      .in = {x, w},
                      .a = Axes{static_cast<std::int64_t>(random_.below(2))}});
    if (y == none || random_.chance(0.3)) return y;
    const Shape shape = values_[y].shape();
    if (random_.chance(0.7))
      y = by_name("add", {y, shaped(leaf({main_, Shape{filters}}, random_.chance(0.5)), shape)});
    if (y != none && random_.chance(0.6)) y = by_name(random_.chance(0.5) ? "relu" : "tanh", {y});
    if (y != none && random_.chance(0.5)) y = add(What::pool, y, Axes{random_.between(1, 2)});
    if (y != none && random_.chance(0.4)) y = by_name("square", {y});
    return y;
  }

  Id larger() {
    switch (random_.below(7)) {
      case 0: {
        const Id x = any_float();
        const int rank = values_[x].rank();
        if (rank == 0) return none;
        return add(random_.chance(0.5) ? What::softmax : What::log_softmax, x,
                   Axes{random_.between(0, rank - 1)});
      }
      case 1: {
        const Id x = any([](const Tensor& t) { return is_float(t.dtype()) && t.rank() == 2; });
        if (x == none) return none;
        return add(What::matmul,
                   {x, operand({values_[x].dtype(), Shape{values_[x].dim(1), random_.of(sizes_)}})});
      }
      case 2: {
        const Id x = any_of_rank(1);
        if (values_[x].dim(0) == 0) return none;
        return add(What::gather, {x, indices({DType::i64, Shape{random_.of(sizes_)}}, 0,
                                             static_cast<double>(values_[x].dim(0)))});
      }
      case 3: {
        const Id x = any_of_rank(1);
        const int rank = values_[x].rank();
        if (rank == 0) return none;
        const Id y = random_.chance(0.3) ? x : operand({values_[x].dtype(), values_[x].shape()});
        if (y == none) return none;
        return add(
            Record{.what = What::concatenate, .in = {x, y, x}, .a = Axes{random_.between(0, rank - 1)}});
      }
      case 4:
        return layer();
      case 5: {
        Id x = any([](const Tensor& t) { return is_float(t.dtype()) && t.rank() == 4; });
        if (x == none) x = operand({main_, image(2)});
        return x == none ? none : add(What::pool, x, Axes{random_.between(1, 2)});
      }
      default: {
        std::vector<Id> leaves;
        for (Id i = 0; i < g_.records.size(); ++i)
          if (g_.records[i].what == What::leaf || g_.records[i].what == What::parameter) leaves.push_back(i);
        const Id x = random_.of(leaves);
        return add(What::alias, {x}, {values_[x].dtype(), Shape{values_[x].numel()}});
      }
    }
  }

  // Now and then of another element type: its elements then have another size.
  void converted(Id x) {
    constexpr DType types[] = {DType::f64, DType::f32, DType::i64, DType::i32};
    if (x != none && random_.chance(0.15)) add(What::cast, {x}, {random_.of(types), {}});
  }

  void one() {
    const double how = random_.unit();
    if (how < 0.45)
      pointwise(random_.of(random_.of(choices().pointwise)));
    else if (how < 0.65)
      converted(view());
    else if (how < 0.75)
      fold();
    else if (how < 0.85)
      larger();
    else
      example();
  }

  void outputs() {
    std::vector<Id> ends;
    for (Id i = 0; i < values_.size(); ++i)
      if (!used_[i] || random_.chance(0.08)) ends.push_back(i);
    while (ends.size() > 6)
      ends.erase(ends.begin() + static_cast<std::ptrdiff_t>(random_.below(ends.size() - 1)));
    g_.outputs = ends;
    for (Id i = 0; i < values_.size(); ++i)
      if (random_.chance(0.1)) g_.held.push_back(i);
  }
};

}  // namespace

Graph random_graph(std::uint64_t seed, double large) { return Drawing(seed, large).run(); }

}  // namespace opgrad::fuzz
