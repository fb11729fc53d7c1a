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

// Each item stays where it is, or becomes a number or a constant there.
class Folder {
 public:
  explicit Folder(Program& p) : p_(p) {}

  void run() {
    for (Item& item : p_.items)
      if (item.kind == ItemKind::op) fold(item);
  }

 private:
  const Item& input(const Item& item, std::size_t k) const { return p_.items[p_.inputs_of(item)[k]]; }

  void become(Item& item, ItemKind kind, std::size_t place) const {
    item = {.kind = kind,
            .dtype = item.dtype,
            .shape = item.shape,
            .place = static_cast<std::uint32_t>(place),
            .node = item.node};
  }
  void become_number(Item& item, double number) {
    p_.numbers.push_back({number, no_index});
    become(item, ItemKind::number, p_.numbers.size() - 1);
  }

  void fold(Item& item) {
    bool numbers = true;
    for (std::size_t k = 0; k < item.count; ++k) {
      if (!known(p_, input(item, k))) return;
      numbers &= input(item, k).kind == ItemKind::number;
    }
    if (numbers && has(item.op->traits, Traits::movement) && shape_of(item.shape).numel() > 0)
      become_number(item, p_.numbers[input(item, 0).place].value);
    else if (numbers && has(item.op->traits, Traits::pointwise))
      fold_element(item);
    else
      fold_whole(item);
  }

  // Every element is the same: one is computed.
  void fold_element(Item& item) {
    std::vector<Cell> cells;
    for (std::size_t k = 0; k < item.count; ++k)
      cells.push_back(cell_of(p_.numbers[input(item, k).place].value, input(item, k).dtype));
    std::vector<View> views;
    for (std::size_t k = 0; k < item.count; ++k)
      views.push_back(dense_view(cells[k].bytes, {input(item, k).dtype, Shape{1}}));
    Cell out;
    item.op->forward.run(
        {.in = views, .out = dense_view(out.bytes, {item.dtype, Shape{1}}), .attrs = item.attributes});
    double number = 0;
    if (number_of(out, item.dtype, number)) become_number(item, number);
  }

  void fold_whole(Item& item) {
    if ((item.op->workspace && !item.op->prepare) || has(item.op->traits, Traits::movement) ||
        p_.bytes_of(item) > most_bytes)
      return;
    std::vector<BufferRef> filled;
    std::vector<View> views;
    for (std::size_t k = 0; k < item.count; ++k) {
      const Item& in = input(item, k);
      const Type type{in.dtype, shape_of(in.shape)};
      if (in.kind == ItemKind::constant) {
        views.push_back(dense_view(p_.constants[in.place]->data, type));
        continue;
      }
      if (p_.bytes_of(in) > most_bytes) return;
      filled.push_back(allocate(p_.bytes_of(in)));
      const Cell cell = cell_of(p_.numbers[in.place].value, in.dtype);
      for (std::int64_t e = 0; e < type.shape.numel(); ++e)
        std::memcpy(filled.back()->data + static_cast<std::size_t>(e) * size_of(in.dtype), cell.bytes,
                    size_of(in.dtype));
      views.push_back(dense_view(filled.back()->data, type));
    }
    BufferRef out = allocate(p_.bytes_of(item));
    try {
      item.op->forward.run({.in = views,
                            .out = dense_view(out->data, {item.dtype, shape_of(item.shape)}),
                            .attrs = item.attributes});
    } catch (const UserError&) {
      return;  // the run will say it, with the user's line
    }
    p_.constants.push_back(std::move(out));
    become(item, ItemKind::constant, p_.constants.size() - 1);
  }

  Program& p_;
};

}  // namespace

void fold_constants(Program& p) {
  std::vector<bool> given(p.items.size());  // what depends on known numbers alone
  std::size_t foldable = 0;
  for (std::size_t i = 0; i < p.items.size(); ++i) {
    const Item& item = p.items[i];
    bool all = item.kind == ItemKind::op;
    for (const std::uint32_t input : p.inputs_of(item)) all = all && given[input];
    given[i] = all || known(p, item);
    foldable += all;
  }
  if (foldable == 0) return;
  p.numbers.reserve(p.numbers.size() + foldable);
  Folder(p).run();
}

}  // namespace opgrad
