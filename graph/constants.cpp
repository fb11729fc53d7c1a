// Constant folding: what depends on known numbers alone is computed now, by its own kernel, so that no
// meaning of an operation is stated twice.
#include <cmath>
#include <cstring>

#include "passes.h"

namespace opgrad {
namespace {

// Larger results would make plans heavy and save little.
constexpr std::size_t most_bytes = 4096;

bool known(const Program& p, const Item& item) {
  return item.kind == ItemKind::constant ||
         (item.kind == ItemKind::number && p.numbers[item.place].captured == no_index);
}

// One element of a number's type.
struct Cell {
  alignas(8) std::byte bytes[8] = {};
};
Cell cell_of(double number, DType dtype) {
  Cell c;
  dispatch(dtype, [&]<class T>() {
    const T x = static_cast<T>(number);
    std::memcpy(c.bytes, &x, sizeof x);
  });
  return c;
}

// The element as a number that gives the same bits again; nothing else may become a number.
bool number_of(const Cell& c, DType dtype, double& number) {
  return dispatch(dtype, [&]<class T>() {
    T x;
    std::memcpy(&x, c.bytes, sizeof x);
    number = static_cast<double>(x);
    if (std::isnan(number) || std::fabs(number) > 9007199254740992.0) return std::isinf(number);
    const Cell again = cell_of(number, dtype);
    return std::memcmp(again.bytes, c.bytes, sizeof x) == 0;
  });
}

class Folder {
 public:
  explicit Folder(Program& p) : r_(p) {}

  Program run() {
    const Program& p = r_.from();
    for (std::uint32_t i = 0; i < p.items.size(); ++i)
      if (p.items[i].kind != ItemKind::op || !fold(i)) r_.keep(i);
    return r_.finish();
  }

 private:
  const Item& input(const Item& item, std::size_t k) const {
    return r_.to().items[r_.of(r_.from().inputs_of(item)[k])];
  }

  bool fold(std::uint32_t i) {
    const Item& item = r_.from().items[i];
    bool numbers = true;
    for (std::size_t k = 0; k < item.count; ++k) {
      if (!known(r_.to(), input(item, k))) return false;
      numbers &= input(item, k).kind == ItemKind::number;
    }
    if (numbers && has(item.op->traits, Traits::movement) && shape_of(item.shape).numel() > 0) {
      r_.replace(i,
                 r_.number(r_.to().numbers[input(item, 0).place].value, item.dtype, item.shape, item.node));
      return true;
    }
    if (numbers && has(item.op->traits, Traits::pointwise)) return fold_element(i);
    return fold_whole(i);
  }

  // Every element is the same: one is computed.
  bool fold_element(std::uint32_t i) {
    const Item& item = r_.from().items[i];
    std::vector<Cell> cells;
    for (std::size_t k = 0; k < item.count; ++k)
      cells.push_back(cell_of(r_.to().numbers[input(item, k).place].value, input(item, k).dtype));
    std::vector<View> views;
    for (std::size_t k = 0; k < item.count; ++k)
      views.push_back(dense_view(cells[k].bytes, {input(item, k).dtype, Shape{1}}));
    Cell out;
    item.op->forward.run(
        {.in = views, .out = dense_view(out.bytes, {item.dtype, Shape{1}}), .attrs = item.attributes});
    double number = 0;
    if (!number_of(out, item.dtype, number)) return false;
    r_.replace(i, r_.number(number, item.dtype, item.shape, item.node));
    return true;
  }

  bool fold_whole(std::uint32_t i) {
    const Item& item = r_.from().items[i];
    if ((item.op->workspace && !item.op->prepare) || has(item.op->traits, Traits::movement) ||
        r_.from().bytes_of(item) > most_bytes)
      return false;
    std::vector<BufferRef> filled;
    std::vector<View> views;
    for (std::size_t k = 0; k < item.count; ++k) {
      const Item& in = input(item, k);
      const Type type{in.dtype, shape_of(in.shape)};
      if (in.kind == ItemKind::constant) {
        views.push_back(dense_view(r_.to().constants[in.place]->data, type));
        continue;
      }
      if (r_.to().bytes_of(in) > most_bytes) return false;
      filled.push_back(allocate(r_.to().bytes_of(in)));
      const Cell cell = cell_of(r_.to().numbers[in.place].value, in.dtype);
      for (std::int64_t e = 0; e < type.shape.numel(); ++e)
        std::memcpy(filled.back()->data + static_cast<std::size_t>(e) * size_of(in.dtype), cell.bytes,
                    size_of(in.dtype));
      views.push_back(dense_view(filled.back()->data, type));
    }
    BufferRef out = allocate(r_.from().bytes_of(item));
    try {
      item.op->forward.run({.in = views,
                            .out = dense_view(out->data, {item.dtype, shape_of(item.shape)}),
                            .attrs = item.attributes});
    } catch (const UserError&) {
      return false;  // the run will say it, with the user's line
    }
    r_.replace(i, r_.constant(std::move(out), item.dtype, item.shape, item.node));
    return true;
  }

  Rewrite r_;
};

}  // namespace

void fold_constants(Program& p) {
  for (const Item& item : p.items) {
    bool all = item.kind == ItemKind::op;
    for (const std::uint32_t input : p.inputs_of(item)) all = all && known(p, p.items[input]);
    if (!all) continue;
    p = Folder(p).run();
    return;
  }
}

}  // namespace opgrad
