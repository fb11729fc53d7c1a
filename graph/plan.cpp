// From a program to calls on storages: the first half of planning.
#include "plan.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "planner.h"

namespace opgrad {
namespace {

Walk walk_of(Base base, const Shape& shape, const Layout& layout) {
  if (dense_layout(shape, layout)) return Walk::dense;
  const std::int64_t run = period(shape, layout);
  if (run == 1 && base == Base::number) return Walk::splat;
  return run > 0 && run <= tile_elements ? Walk::periodic : Walk::gathered;
}

class Planner {
 public:
  explicit Planner(Plan& plan)
      : p_(plan.program), draft_{plan, {}, {}}, plan_(plan), places_(p_.items.size()) {}

  void run() {
    plan_.outputs.resize(p_.outputs.size());
    in_tail_.assign(p_.items.size(), false);
    for (std::size_t k = p_.tail; k < p_.order.size(); ++k) in_tail_[p_.order[k]] = true;
    given();
    for (std::uint32_t k = 0; k < p_.order.size(); ++k) {
      if (k == p_.tail) begin_tail();
      emit(p_.order[k]);
    }
    if (p_.tail >= p_.order.size()) begin_tail();
    close_rows();
    outputs(true);
    lay_out(draft_);
  }

 private:
  const Shape& shape(std::uint32_t i) const { return p_.shape(i); }
  bool is_dense(std::uint32_t i) const { return dense_layout(shape(i), draft_.layout_of(places_[i])); }

  Place place(std::uint32_t storage, const Layout& layout) {
    const auto next = static_cast<std::uint32_t>(plan_.layouts.size());
    const auto [known, fresh] = strides_.emplace(layout.strides, next);
    if (fresh) plan_.layouts.push_back(layout.strides);
    return {storage, known->second, layout.offset};
  }
  Place dense(std::uint32_t storage, std::uint32_t i) { return place(storage, {0, dense_strides(shape(i))}); }

  std::uint32_t new_storage(Storage s) {
    draft_.storages.push_back(s);
    return static_cast<std::uint32_t>(draft_.storages.size() - 1);
  }

  // Slots, constants and numbers.
  void given() {
    plan_.cells.assign(p_.numbers.size(), {no_index, DType::f32});
    for (std::uint32_t i = 0; i < p_.items.size(); ++i) {
      const Item& item = p_.items[i];
      if (item.kind == ItemKind::op) continue;
      const bool number = item.kind == ItemKind::number;
      const Base base = item.kind == ItemKind::slot ? Base::slot : number ? Base::number : Base::constant;
      if (number) plan_.cells[item.place] = {p_.numbers[item.place].captured, item.dtype};
      const std::uint32_t s = new_storage({.base = base, .index = item.place, .bytes = p_.bytes_of(item)});
      places_[i] = number ? place(s, {}) : dense(s, i);
    }
  }

  // The step that calls now belong to.
  std::uint32_t step() const { return static_cast<std::uint32_t>(plan_.steps.size()); }
  std::uint32_t next_call() const { return static_cast<std::uint32_t>(plan_.calls.size()); }

  // The kernel does not take the input as it lies.
  bool wants_copy(const Item& item, std::uint32_t in) const {
    if (is_dense(in)) return false;
    return has(item.op->traits, Traits::dense_inputs) ||
           (item.op->reads && !item.op->reads(shape(in), draft_.layout_of(places_[in])));
  }

  // From its copy where the kernel wants that. Others read the view even where there is a copy: a
  // kernel's bits may depend on strides, and must not depend on who came first.
  void read(std::uint32_t item, bool wants_copy, bool elementwise, bool cut) {
    const auto copy = wants_copy ? copies_.find(item) : copies_.end();
    const Place& place = copy == copies_.end() ? places_[item] : copy->second;
    const Layout layout = draft_.layout_of(place);
    Storage& s = draft_.storages[place.storage];
    if (s.end < step()) s.elementwise = true;
    s.end = std::max(s.end, step());
    s.call_end = std::max(s.call_end, next_call());
    // All of it, so that equal bytes of input and result mean elements of one size.
    if (!elementwise || !dense_layout(shape(item), layout) || p_.bytes_of(p_.items[item]) != s.bytes)
      s.elementwise = false;
    draft_.operands.push_back(
        {place, p_.items[item].shape, p_.items[item].dtype, walk_of(s.base, shape(item), layout), cut});
  }

  Place written(std::uint32_t item, bool cut) {
    const std::int64_t rows = cut ? shape(item)[0] : 0;
    const std::uint32_t s =
        new_storage({.bytes = p_.bytes_of(p_.items[item]),
                     .begin = step(),
                     .end = step(),
                     .call_begin = next_call(),
                     .call_end = next_call(),
                     .row_bytes = rows ? static_cast<std::int64_t>(p_.bytes_of(p_.items[item])) / rows : 0});
    const Place all = dense(s, item);
    draft_.operands.push_back({all, p_.items[item].shape, p_.items[item].dtype, Walk::dense, cut});
    return all;
  }

  void push(const PlanStep& s) { (rows_ == no_index ? plan_.steps : plan_.parts).push_back(s); }

  void close_step() {
    if (!open_) return;
    open_ = false;
    push(step_);
  }

  void close_rows() {
    close_step();
    if (rows_ == no_index) return;
    rows_ = no_index;
    row_step_.count = static_cast<std::uint32_t>(plan_.parts.size()) - row_step_.first;
    plan_.steps.push_back(row_step_);
  }

  void open_rows(const Item& item) {
    rows_ = item.rows;
    row_step_ = {.first = static_cast<std::uint32_t>(plan_.parts.size()),
                 .rows = shape_of(item.shape)[0],
                 .block = p_.row_blocks[item.rows]};
  }

  // A dense copy of an item, as a step of its own; returns the place of the copy.
  Place copied(std::uint32_t item) {
    close_rows();
    const auto operands = static_cast<std::uint32_t>(draft_.operands.size());
    read(item, false, false, false);
    const Place all = written(item, false);
    plan_.steps.push_back({.head = next_call()});
    plan_.calls.push_back({nullptr, nullptr, item, operands, 1});
    return all;
  }

  void view(std::uint32_t i) {
    const Item& item = p_.items[i];
    const std::uint32_t input = p_.inputs_of(item)[0];
    std::uint32_t storage = places_[input].storage;
    Layout layout = draft_.layout_of(places_[input]);
    if (!item.op->view(item.attributes, shape(input), shape(i), layout)) {
      const Place copy = copied(input);
      storage = copy.storage;
      layout = draft_.layout_of(copy);
      if (!item.op->view(item.attributes, shape(input), shape(i), layout))
        throw InternalError(std::string("the view rule of ") + item.op->name + " refuses a dense input");
    }
    places_[i] = place(storage, layout);
  }

  void emit(std::uint32_t i) {
    const Item& item = p_.items[i];
    const auto inputs = p_.inputs_of(item);
    if (has(item.op->traits, Traits::movement)) return view(i);
    if (item.rows != rows_) close_rows();
    const bool member = item.group != no_index;
    const bool consumes = open_ && item.consumes != no_index && item.consumes == open_group_;
    if (open_ && !consumes && !(member && item.group == open_group_)) close_step();
    for (const std::uint32_t in : inputs)
      if (wants_copy(item, in) && !copies_.contains(in)) copies_.emplace(in, copied(in));
    if (item.rows != rows_) open_rows(item);
    const bool pointwise = has(item.op->traits, Traits::pointwise);
    const bool cut = rows_ != no_index, folds = cut && p_.folds_rows(item);
    const auto operands = static_cast<std::uint32_t>(draft_.operands.size());
    for (std::uint32_t k = 0; k < item.count; ++k)
      read(inputs[k], wants_copy(item, inputs[k]), pointwise, folds || (cut && p_.cut_with_rows(item, k)));
    places_[i] = written(i, cut && !folds);
    if (member) {
      if (!open_) step_ = {.first = next_call()};
      if (step_.count == 0) step_.first = next_call();
      ++step_.count;
      open_group_ = item.group;
    } else if (consumes) {
      step_.fold = next_call();
      open_group_ = no_index;
    } else {
      step_ = {.head = next_call()};
      open_group_ = item.epilogue;
    }
    open_ = true;
    plan_.calls.push_back({item.op, item.attributes, i, operands, item.count});
  }

  void begin_tail() {
    close_rows();
    outputs(false);
    plan_.tail = step();
  }

  // Each output gets memory of its own; what is a view, a leaf or a number is copied there. Outputs of the
  // fallible part are complete before the tail begins, so that they can be looked at first.
  void outputs(bool of_tail) {
    for (std::size_t k = 0; k < p_.outputs.size(); ++k) {
      const std::uint32_t item = p_.outputs[k].item;
      if (in_tail_[item] != of_tail) continue;
      std::uint32_t s = places_[item].storage;
      const bool own = p_.items[item].kind == ItemKind::op && is_dense(item) && places_[item].offset == 0 &&
                       draft_.storages[s].base == Base::arena &&
                       draft_.storages[s].bytes == p_.bytes_of(p_.items[item]);
      if (!own) s = copied(item).storage;
      draft_.storages[s].base = Base::output;
      draft_.storages[s].index = static_cast<std::uint32_t>(k);
      plan_.outputs[k] = {p_.bytes_of(p_.items[item]), no_index};
      if (own && of_tail) plan_.outputs[k].donor = p_.outputs[k].donor;
    }
  }

  const Program& p_;
  Draft draft_;
  Plan& plan_;
  std::vector<Place> places_;
  std::map<std::array<std::int64_t, max_rank>, std::uint32_t> strides_;  // places in Plan::layouts
  std::unordered_map<std::uint32_t, Place> copies_;                      // dense copies of views
  std::vector<bool> in_tail_;
  PlanStep step_, row_step_;  // being filled
  bool open_ = false;
  std::uint32_t open_group_ = no_index;  // whose members join step_
  std::uint32_t rows_ = no_index;        // the row group that is open
};

}  // namespace

bool dense_layout(const Shape& s, const Layout& l) {
  const auto strides = dense_strides(s);
  for (int a = 0; a < s.rank(); ++a)
    if (s[a] != 1 && l.strides[static_cast<std::size_t>(a)] != strides[static_cast<std::size_t>(a)])
      return s.numel() == 0;
  return true;
}

std::int64_t period(const Shape& shape, const Layout& layout) {
  int axis = shape.rank();
  std::int64_t run = 1;
  while (axis > 0 && (shape[axis - 1] == 1 || layout.strides[static_cast<std::size_t>(axis - 1)] == run))
    run *= shape[--axis];
  while (axis > 0 && (shape[axis - 1] == 1 || layout.strides[static_cast<std::size_t>(axis - 1)] == 0))
    --axis;
  return axis == 0 ? run : 0;
}

Plan make_plan(Capture& capture, const std::vector<bool>& fixed, PassSet passes) {
  Plan plan;
  plan.program = program_of(capture, fixed);
  plan.nodes = capture.nodes.size();
  plan.key = std::move(capture.key);
  plan.hash = capture.hash;
  plan.numbers = capture.numbers;
  plan.number_fixed = fixed;
  plan.passes = passes;
  run_passes(plan.program, passes);
  Planner(plan).run();
  plan.origins.resize(plan.nodes);
  std::ranges::transform(capture.nodes, plan.origins.begin(), &Node::origin);
  if (passes.has("compile")) compile_groups(plan, worth_compiling_at_once());
  return plan;
}

}  // namespace opgrad
