// Pointwise fusion: what works element by element on values of one size becomes one group, which runs tile by
// tile in cache. Steps are reordered so that what can join comes next.
#include <algorithm>
#include <functional>
#include <queue>
#include <vector>

#include "passes.h"
#include "plan.h"
#include "views.h"

namespace opgrad {
namespace {

using Queue = std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>>;

// A value read by more steps than this does not bring them together: looking at them all would take too long.
constexpr std::size_t most_users = 64;

class Fusion {
 public:
  explicit Fusion(Program& p)
      : p_(p), shown_(p), users_(p), place_(p.items.size(), no_index), waits_(p.items.size(), 0) {
    for (std::uint32_t k = 0; k < p.order.size(); ++k) place_[p.order[k]] = k;
    for (const std::uint32_t i : p.order)
      for (const std::uint32_t in : p.inputs_of(p.items[i])) waits_[i] += p.items[in].kind == ItemKind::op;
    done_.assign(p.items.size(), false);
  }

  void run() {
    const auto count = static_cast<std::uint32_t>(p_.order.size());
    for (const bool tail : {false, true}) {
      in_tail_ = tail;
      end_group();
      for (std::uint32_t k = tail ? p_.tail : 0; k < (tail ? count : p_.tail); ++k)
        if (waits_[p_.order[k]] == 0) now_ready(p_.order[k]);
      while (const std::uint32_t* next = choose()) take(p_.order[*next]);
    }
    p_.order = std::move(order_);
  }

 private:
  bool pointwise(const Item& item) const {
    return has(item.op->traits, Traits::pointwise) && item.count <= widest_member &&
           shape_of(item.shape).numel() > 0;
  }
  bool on_this_side(std::uint32_t k) const { return (k >= p_.tail) == in_tail_; }

  // Members read one another's elements in order only: what shows them otherwise must wait until they are
  // complete.
  bool may_join(std::uint32_t i) const {
    const Item& item = p_.items[i];
    if (!pointwise(item) || members_ == longest_group || shape_of(item.shape).numel() != numel_) return false;
    return std::ranges::all_of(p_.inputs_of(item), [&](std::uint32_t in) {
      const std::uint32_t root = shown_[in].root;
      const bool of_group = root == opener_ || (p_.items[root].group == group_ && group_ != no_index);
      return !of_group || shows_all_in_order(p_, shown_, in);
    });
  }

  // The next step, as its place in the old order; null at the end of this side.
  const std::uint32_t* choose() {
    while (!views_.empty()) {
      chosen_ = views_.top();
      views_.pop();
      if (!done_[p_.order[chosen_]]) return &chosen_;
    }
    while (!near_.empty()) {
      chosen_ = near_.top();
      near_.pop();
      if (!done_[p_.order[chosen_]] && may_join(p_.order[chosen_])) return &chosen_;
    }
    for (Queue* queue : {&ready_, &later_})
      while (!queue->empty()) {
        chosen_ = queue->top();
        queue->pop();
        if (!done_[p_.order[chosen_]]) return &chosen_;
      }
    return nullptr;
  }

  void take(std::uint32_t i) {
    Item& item = p_.items[i];
    done_[i] = true;
    order_.push_back(i);
    if (!is_view(p_, shown_, i)) {
      if (open_ && may_join(i)) {
        if (group_ == no_index) group_ = next_group_++;
        item.group = group_;
        ++members_;
      } else {
        end_group();
        open_ = pointwise(item) || has(item.op->traits, Traits::pieces);
        numel_ = shape_of(item.shape).numel();
        if (pointwise(item)) {
          item.group = group_ = next_group_++;
          members_ = 1;
        } else {
          opener_ = i;
        }
      }
    }
    for (const std::uint32_t user : users_.of(i))
      if (--waits_[user] == 0 && on_this_side(place_[user])) now_ready(user);
    if (open_) bring_near(i);
  }

  // In the tail kernels go before pointwise steps, which then find the group that they belong to.
  void now_ready(std::uint32_t i) {
    (in_tail_ && pointwise(p_.items[i]) ? later_ : ready_).push(place_[i]);
    if (is_view(p_, shown_, i)) views_.push(place_[i]);
  }

  bool is_ready(std::uint32_t i) const {
    return waits_[i] == 0 && !done_[i] && place_[i] != no_index && on_this_side(place_[i]);
  }

  // Steps that read what this one reads or makes may be next, and what such steps still wait for.
  void bring_near(std::uint32_t i) {
    const auto users = [&](std::uint32_t of) {
      const auto list = users_.of(of);
      if (list.size() > most_users) return;
      for (const std::uint32_t u : list) {
        if (is_ready(u)) near_.push(place_[u]);
        if (waits_[u] > 0)
          for (const std::uint32_t other : p_.inputs_of(p_.items[u]))
            if (is_ready(other)) near_.push(place_[other]);
      }
    };
    users(i);
    if (p_.items[i].group != no_index)
      for (const std::uint32_t in : p_.inputs_of(p_.items[i]))
        if (p_.items[in].kind != ItemKind::number) users(in);
  }

  void end_group() {
    open_ = false;
    group_ = opener_ = no_index;
    members_ = 0;
    near_ = {};
  }

  Program& p_;
  const ShownItems shown_;
  const Users users_;
  std::vector<std::uint32_t> place_, waits_, order_;
  std::vector<bool> done_;
  Queue ready_, later_, views_, near_;
  std::uint32_t chosen_ = 0;
  bool in_tail_ = false, open_ = false;
  std::uint32_t group_ = no_index, next_group_ = 0, members_ = 0;
  std::uint32_t opener_ = no_index;  // a kernel that reports its pieces: the group may run on them
  std::int64_t numel_ = 0;
};

}  // namespace

void fuse_pointwise(Program& p) { Fusion(p).run(); }

}  // namespace opgrad
