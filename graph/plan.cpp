// From a captured program to a plan: passes, then places for all values.
#include "plan.h"

#include <algorithm>
#include <map>

#include "memory.h"

namespace opgrad {
namespace {

// One block of memory that a plan knows: where it comes from and when it is needed.
struct Storage {
  Base base = Base::arena;
  std::uint32_t index = 0;
  std::size_t bytes = 0;
  std::uint32_t begin = no_index, end = 0;     // steps
  std::uint32_t call_begin = 0, call_end = 0;  // the call that writes it, the last that reads it
  std::int64_t offset = 0;
  bool only_dense_reads = true;
};

// Where an item's elements are.
struct Place {
  std::uint32_t storage = no_index;
  Layout layout;  // offset in elements
};

class Planner {
 public:
  Planner(Program& p, Plan& plan)
      : p_(p), plan_(plan), places_(p.items.size()), in_tail_(p.items.size(), false) {}

  void run() {
    plan_.outputs.resize(p_.outputs.size());
    for (std::size_t k = p_.tail; k < p_.order.size(); ++k) in_tail_[p_.order[k]] = true;
    given();
    for (std::uint32_t k = 0; k < p_.order.size(); ++k) {
      if (k == p_.tail) begin_tail();
      emit(p_.order[k]);
    }
    if (p_.tail >= p_.order.size()) begin_tail();
    close();
    outputs(true);
    check_donors();
    assign();
    resolve();
  }

 private:
  struct PendingOperand {
    std::uint32_t storage;
    Layout layout;
    ShapeId shape;
    DType dtype;
  };

  const Shape& shape(std::uint32_t i) const { return shape_of(p_.items[i].shape); }
  Layout dense(std::uint32_t i) const { return {0, dense_strides(shape(i))}; }
  bool is_dense(std::uint32_t i) const { return dense_layout(shape(i), places_[i].layout); }
  static bool dense_layout(const Shape& s, const Layout& l) {
    const auto strides = dense_strides(s);
    for (int a = 0; a < s.rank(); ++a)
      if (s[a] != 1 && l.strides[static_cast<std::size_t>(a)] != strides[static_cast<std::size_t>(a)])
        return s.numel() == 0;
    return true;
  }

  std::uint32_t new_storage(Storage s) {
    storages_.push_back(s);
    return static_cast<std::uint32_t>(storages_.size() - 1);
  }

  void given() {
    for (std::uint32_t i = 0; i < p_.items.size(); ++i) {
      const Item& item = p_.items[i];
      if (item.kind == ItemKind::slot)
        places_[i] = {new_storage({.base = Base::slot, .index = item.place, .bytes = p_.bytes_of(item)}),
                      dense(i)};
      if (item.kind == ItemKind::constant)
        places_[i] = {new_storage({.base = Base::constant, .index = item.place, .bytes = p_.bytes_of(item)}),
                      dense(i)};
      if (item.kind == ItemKind::number)
        places_[i] = {new_storage({.base = Base::number, .index = item.place, .bytes = 8}), {}};
    }
  }

  std::uint32_t step() const { return static_cast<std::uint32_t>(plan_.steps.size()); }

  void read(std::uint32_t item) {
    const Place& place = places_[item];
    Storage& s = storages_[place.storage];
    s.end = std::max(s.end, step());
    s.call_end = std::max(s.call_end, static_cast<std::uint32_t>(plan_.calls.size()));
    if (!is_dense(item) || place.layout.offset != 0) s.only_dense_reads = false;
    operands_.push_back({place.storage, place.layout, p_.items[item].shape, p_.items[item].dtype});
  }

  std::uint32_t written(std::uint32_t item) {
    const std::uint32_t s = new_storage({.bytes = p_.bytes_of(p_.items[item]),
                                         .begin = step(),
                                         .end = step(),
                                         .call_begin = static_cast<std::uint32_t>(plan_.calls.size()),
                                         .call_end = static_cast<std::uint32_t>(plan_.calls.size())});
    operands_.push_back({s, dense(item), p_.items[item].shape, p_.items[item].dtype});
    return s;
  }

  void close() {
    if (!open_) return;
    open_ = false;
    plan_.steps.push_back({first_call_, static_cast<std::uint32_t>(plan_.calls.size()) - first_call_, true});
  }

  // A dense copy of an item, as a step of its own; returns the place of the copy.
  Place copied(std::uint32_t item) {
    close();
    const auto operands = static_cast<std::uint32_t>(operands_.size());
    read(item);
    const std::uint32_t s = written(item);
    plan_.calls.push_back({nullptr, nullptr, item, operands, 1});
    plan_.steps.push_back({static_cast<std::uint32_t>(plan_.calls.size()) - 1, 1});
    return {s, dense(item)};
  }

  void emit(std::uint32_t i) {
    const Item& item = p_.items[i];
    const auto inputs = p_.inputs_of(item);
    if (has(item.op->traits, Traits::movement)) {
      Place place = places_[inputs[0]];
      if (!item.op->view(item.attributes, shape(inputs[0]), shape(i), place.layout)) {
        place = copied(inputs[0]);
        if (!item.op->view(item.attributes, shape(inputs[0]), shape(i), place.layout))
          throw InternalError(std::string("the view rule of ") + item.op->name + " refuses a dense input");
      }
      places_[i] = place;
      return;
    }
    const bool grouped = item.group != no_index;
    if (!grouped || (open_ && item.group != open_group_)) close();
    if (has(item.op->traits, Traits::dense_inputs))
      for (const std::uint32_t in : inputs)
        if (!is_dense(in)) places_[in] = copied(in);
    if (grouped && !open_) {
      open_ = true;
      open_group_ = item.group;
      first_call_ = static_cast<std::uint32_t>(plan_.calls.size());
    }
    const auto operands = static_cast<std::uint32_t>(operands_.size());
    for (const std::uint32_t in : inputs) read(in);
    places_[i] = {written(i), dense(i)};
    plan_.calls.push_back({item.op, item.attributes, i, operands, item.count});
    if (!grouped) plan_.steps.push_back({static_cast<std::uint32_t>(plan_.calls.size()) - 1, 1});
  }

  void begin_tail() {
    close();
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
      const bool own = p_.items[item].kind == ItemKind::op && is_dense(item) &&
                       places_[item].layout.offset == 0 && storages_[s].base == Base::arena &&
                       storages_[s].bytes == p_.bytes_of(p_.items[item]);
      if (!own) s = copied(item).storage;
      storages_[s].base = Base::output;
      storages_[s].index = static_cast<std::uint32_t>(k);
      plan_.outputs[k] = {p_.bytes_of(p_.items[item]), no_index};
      if (own && of_tail) plan_.outputs[k].donor = p_.outputs[k].donor;
    }
  }

  // Takes back the donations that would destroy what somebody still has to read.
  void check_donors() {
    std::vector<std::uint32_t> storage_of_slot(p_.slots, no_index);
    for (std::uint32_t s = 0; s < storages_.size(); ++s)
      if (storages_[s].base == Base::slot) storage_of_slot[storages_[s].index] = s;
    for (std::uint32_t k = 0; k < plan_.outputs.size(); ++k) {
      std::uint32_t& donor = plan_.outputs[k].donor;
      if (donor == no_index) continue;
      const auto out = std::ranges::find_if(
          storages_, [&](const Storage& s) { return s.base == Base::output && s.index == k; });
      // A donor that nobody reads any more may be overwritten at any time.
      const std::uint32_t s = storage_of_slot[donor];
      if (s != no_index && !may_donate(*out, storages_[s])) donor = no_index;
    }
  }

  // Nobody reads the donor after the step that writes the output; who reads it in that very step does so
  // element by element, before the output's own element is written or by the call that writes it.
  static bool may_donate(const Storage& out, const Storage& donor) {
    if (donor.end != out.begin) return donor.end < out.begin;
    return donor.only_dense_reads && donor.call_end <= out.call_begin;
  }

  void assign() {
    // Values that live inside one group need a tile only; tiles are reused as soon as nobody reads them.
    for (std::uint32_t st = 0; st < plan_.steps.size(); ++st) {
      PlanStep& step = plan_.steps[st];
      if (!step.group) continue;
      std::vector<std::uint32_t> free;
      std::multimap<std::uint32_t, std::uint32_t> busy;  // last reading call -> tile
      for (std::uint32_t c = step.call; c < step.call + step.calls; ++c) {
        for (auto it = busy.begin(); it != busy.end() && it->first < c; it = busy.erase(it))
          free.push_back(it->second);
        Storage& s = storages_[operands_[plan_.calls[c].operands + plan_.calls[c].inputs].storage];
        if (s.base != Base::arena || s.end != st) continue;
        s.base = Base::tile;
        if (free.empty()) free.push_back(step.tiles++);
        s.index = free.back();
        free.pop_back();
        busy.emplace(s.call_end, s.index);
      }
    }
    std::vector<Lifetime> lifetimes;
    std::vector<std::int64_t*> answers;
    for (Storage& s : storages_)
      if (s.base == Base::arena) {
        lifetimes.push_back({s.begin, s.end, s.bytes});
        answers.push_back(&s.offset);
      }
    for (std::uint32_t st = 0; st < plan_.steps.size(); ++st) {
      PlanCall& c = plan_.calls[plan_.steps[st].call];
      if (plan_.steps[st].group || !c.op || !c.op->workspace) continue;
      if (const std::size_t bytes = workspace_bytes(c)) {
        lifetimes.push_back({st, st, bytes});
        answers.push_back(&c.workspace);
      }
    }
    plan_.arena_bytes = place(lifetimes, plan_.live_bytes_bound);
    for (std::size_t i = 0; i < lifetimes.size(); ++i)
      *answers[i] = static_cast<std::int64_t>(lifetimes[i].offset);
  }

  // A workspace rule sees a call as a shape rule does.
  std::size_t workspace_bytes(const PlanCall& c) const {
    const Item& item = p_.items[c.item];
    std::vector<Node> shells(item.count);
    std::vector<Node*> pointers;
    for (std::uint32_t k = 0; k < item.count; ++k) {
      const Item& in = p_.items[p_.inputs_of(item)[k]];
      shells[k].dtype = in.dtype;
      shells[k].shape = in.shape;
      pointers.push_back(&shells[k]);
    }
    return c.op->workspace(Call{*c.op, pointers, item.attributes});
  }

  void resolve() {
    std::map<std::array<std::int64_t, max_rank>, std::uint32_t> known;
    for (const PendingOperand& o : operands_) {
      const Storage& s = storages_[o.storage];
      const auto [it, fresh] =
          known.emplace(o.layout.strides, static_cast<std::uint32_t>(plan_.layouts.size()));
      if (fresh) plan_.layouts.push_back(o.layout.strides);
      plan_.operands.push_back(
          {.base = s.base,
           .dtype = o.dtype,
           .index = s.index,
           .offset = s.offset + o.layout.offset * static_cast<std::int64_t>(size_of(o.dtype)),
           .shape = o.shape,
           .layout = it->second});
    }
  }

  Program& p_;
  Plan& plan_;
  std::vector<Place> places_;
  std::vector<bool> in_tail_;
  std::vector<Storage> storages_;
  std::vector<PendingOperand> operands_;
  bool open_ = false;
  std::uint32_t open_group_ = 0, first_call_ = 0;
};

}  // namespace

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
  Planner(plan.program, plan).run();
  return plan;
}

}  // namespace opgrad
