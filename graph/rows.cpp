// Row groups: operations that treat the rows of axis 0 apart (the images of a batch) run one after the other
// on a block of rows before the next block is begun, so that what one makes is in cache when the next reads
// it. What is folded over these rows (a bias's gradient, a kernel's) is folded block by block as well.
#include <algorithm>
#include <numeric>
#include <vector>

#include "passes.h"
#include "views.h"

namespace opgrad {
namespace {

// Fewer rows leave threads without work, and kernels cut them better themselves.
constexpr std::int64_t fewest_rows = 16;
// Rows of this many bytes, all values of a group together, still fit a second-level cache.
constexpr std::int64_t most_row_bytes = std::int64_t{1} << 20;
// So many blocks at least, for threads to share; more where a block would not stay in cache.
constexpr std::int64_t fewest_blocks = 16, most_block_bytes = std::int64_t{3} << 19;
// Less than this, all rows of all values together, stays in cache anyway.
constexpr std::int64_t fewest_bytes = std::int64_t{1} << 18;
// How far ahead is looked for what can join.
constexpr std::size_t window = 32;

// What runs as one step: a kernel with the group on its pieces, a group, or a kernel; views stand with what
// follows them.
struct Unit {
  std::vector<std::uint32_t> items;  // in order
  bool in_tail = false;
};

// For an input that does not lie in order, which then cannot be cut into rows.
bool may_want_copies(const Op& op) { return has(op.traits, Traits::dense_inputs) || op.reads; }

class RowFusion {
 public:
  explicit RowFusion(Program& p) : p_(p), shown_(p), unit_of_(p.items.size(), no_index) {}

  void run() {
    cut_into_units();
    std::vector<bool> placed(units_.size(), false);
    std::vector<std::uint32_t> order;
    for (std::uint32_t u = 0; u < units_.size(); ++u) {
      if (placed[u]) continue;
      const std::vector<std::uint32_t> group = group_from(u, placed);
      for (const std::uint32_t g : group) {
        placed[g] = true;
        order.insert(order.end(), units_[g].items.begin(), units_[g].items.end());
      }
      if (group.size() > 1) mark(group);
    }
    p_.order = std::move(order);
  }

 private:
  void cut_into_units() {
    Unit unit;
    std::uint32_t last = no_index;  // the last item of the unit that is no view
    const auto close = [&] {
      if (last == no_index) return;
      for (const std::uint32_t i : unit.items) unit_of_[i] = static_cast<std::uint32_t>(units_.size());
      units_.push_back(std::move(unit));
      unit = {};
      last = no_index;
    };
    std::vector<std::uint32_t> views;
    for (std::uint32_t k = 0; k < p_.order.size(); ++k) {
      const std::uint32_t i = p_.order[k];
      const Item& item = p_.items[i];
      if (k == p_.tail) close();
      if (is_view(p_, shown_, i)) {
        views.push_back(i);
        continue;
      }
      if (last != no_index) {
        const Item& before = p_.items[last];
        const bool together =
            (item.group != no_index && (before.group == item.group || before.epilogue == item.group)) ||
            (item.consumes != no_index && before.group == item.consumes);
        if (!together) close();
      }
      unit.items.insert(unit.items.end(), views.begin(), views.end());
      views.clear();
      unit.items.push_back(i);
      unit.in_tail = k >= p_.tail;
      last = i;
    }
    close();
    if (!views.empty()) {
      for (const std::uint32_t i : views) unit_of_[i] = static_cast<std::uint32_t>(units_.size());
      units_.push_back({std::move(views), false});
    }
  }

  // Row r of what item i shows lies in row r of its root, and nowhere else.
  bool rows_aligned(std::uint32_t i) const {
    const Shown& s = shown_[i];
    if (s.root == i) return true;
    const Shape &shape = p_.shape(i), &root = p_.shape(s.root);
    if (shape.rank() == 0 || root.rank() == 0 || shape[0] != root[0] || root[0] == 0) return false;
    const std::int64_t row = root.numel() / root[0];
    if (s.layout->strides[0] != row) return false;
    std::int64_t low = s.layout->offset, high = s.layout->offset;
    for (int axis = 1; axis < shape.rank(); ++axis) {
      const std::int64_t reach = (shape[axis] - 1) * s.layout->strides[static_cast<std::size_t>(axis)];
      (reach < 0 ? low : high) += reach;
    }
    return low >= 0 && high < row;
  }

  // All steps of the unit treat rows apart, and there are `rows` of them (any number where that is 0).
  bool by_rows(const Unit& unit, std::int64_t& rows) const {
    if (unit.in_tail) return false;
    for (const std::uint32_t i : unit.items) {
      const Item& item = p_.items[i];
      if (is_view(p_, shown_, i)) continue;
      if (has(item.op->traits, Traits::movement) || (item.op->workspace && !item.op->prepare)) return false;
      if (p_.shape(i).rank() == 0) return false;
      if (rows == 0) rows = p_.shape(i)[0];
      if (p_.shape(i)[0] != rows || rows < fewest_rows || p_.shape(i).numel() == 0) return false;
      const auto inputs = p_.inputs_of(item);
      bool any_cut = false;
      for (std::uint32_t k = 0; k < item.count; ++k) {
        const bool cut = p_.cut_with_rows(item, k);
        any_cut = any_cut || cut;
        if (cut && p_.shape(inputs[k])[0] != rows) return false;
        // What the unit itself makes is read row by row.
        const bool own = std::ranges::find(unit.items, shown_[inputs[k]].root) != unit.items.end();
        if (own && (!cut || !rows_aligned(inputs[k]))) return false;
        // A copy would have to be made between the parts.
        if (may_want_copies(*item.op) && !shows_all_in_order(p_, shown_, inputs[k])) return false;
      }
      if (!any_cut) return false;
    }
    return true;
  }

  // What kernels, not elementwise loops, make: a unit without one gains nothing by itself.
  bool has_kernel(const Unit& unit) const {
    return std::ranges::any_of(unit.items, [&](std::uint32_t i) {
      return !is_view(p_, shown_, i) && !has(p_.items[i].op->traits, Traits::pointwise);
    });
  }

  std::int64_t row_bytes(const Unit& unit, std::int64_t rows) const {
    if (const std::uint32_t i = the_kernel(unit); i != no_index && p_.folds_rows(p_.items[i])) return 0;
    std::int64_t bytes = 0;
    for (const std::uint32_t i : unit.items)
      if (!is_view(p_, shown_, i)) bytes += static_cast<std::int64_t>(p_.bytes_of(p_.items[i])) / rows;
    return bytes;
  }

  // The item of a unit that is one kernel by itself.
  std::uint32_t the_kernel(const Unit& unit) const {
    std::uint32_t kernel = no_index;
    for (const std::uint32_t i : unit.items) {
      if (is_view(p_, shown_, i)) continue;
      const Item& item = p_.items[i];
      if (kernel != no_index || item.group != no_index || item.epilogue != no_index ||
          item.consumes != no_index || has(item.op->traits, Traits::movement))
        return no_index;
      kernel = i;
    }
    return kernel;
  }

  // The unit is folded over `rows` rows in parts of this many; 0: it is not, or they are not apart.
  std::int64_t folded_at_once(const Unit& unit, std::int64_t rows) const {
    const std::uint32_t i = the_kernel(unit);
    if (unit.in_tail || i == no_index || !p_.folds_rows(p_.items[i])) return 0;
    for (const std::uint32_t in : p_.inputs_of(p_.items[i])) {
      if (p_.shape(in).rank() == 0 || p_.shape(in)[0] != rows) return 0;
      if (may_want_copies(*p_.items[i].op) && !shows_all_in_order(p_, shown_, in)) return 0;
    }
    const ItemCall call(p_, p_.items[i]);
    return p_.items[i].op->over_rows.rows(call.call());
  }

  // How many rows a block has, a multiple of `parts`; 0: blocks would be too large, or too few.
  static std::int64_t block_of(std::int64_t rows, std::int64_t row_bytes, std::int64_t parts) {
    const std::int64_t fitting =
        std::max<std::int64_t>(1, most_block_bytes / std::max<std::int64_t>(row_bytes, 1));
    return std::min((rows + fewest_blocks - 1) / fewest_blocks, fitting) / parts * parts;
  }

  // The unit, followed by those that join it.
  std::vector<std::uint32_t> group_from(std::uint32_t first, const std::vector<bool>& placed) const {
    std::vector<std::uint32_t> group{first};
    std::int64_t rows = 0;
    if (!by_rows(units_[first], rows) || !has_kernel(units_[first])) return group;
    std::int64_t bytes = row_bytes(units_[first], rows), parts = 1;
    std::vector<std::uint32_t> skipped;
    for (std::uint32_t u = first + 1; u < units_.size() && u - first <= window; ++u) {
      if (placed[u]) continue;
      std::int64_t same = rows, at_once = folded_at_once(units_[u], rows);
      if (at_once == 0 && by_rows(units_[u], same)) at_once = 1;
      const std::int64_t more = bytes + row_bytes(units_[u], rows);
      if (at_once > 0 && more <= most_row_bytes && joins(units_[u], group, skipped) &&
          block_of(rows, more, std::lcm(parts, at_once)) > 0) {
        group.push_back(u);
        bytes = more;
        parts = std::lcm(parts, at_once);
      } else {
        skipped.push_back(u);
      }
    }
    if (bytes * rows < fewest_bytes && !thorough()) group.resize(1);
    return group;
  }

  // It reads something of the group, row by row, and nothing that comes after the group.
  bool joins(const Unit& unit, const std::vector<std::uint32_t>& group,
             const std::vector<std::uint32_t>& skipped) const {
    bool reads_group = false;
    for (const std::uint32_t i : unit.items) {
      const Item& item = p_.items[i];
      for (std::uint32_t k = 0; k < item.count; ++k) {
        const std::uint32_t in = p_.inputs_of(item)[k], root = shown_[in].root;
        for (const std::uint32_t from : {unit_of_[in], unit_of_[root]}) {
          if (from == no_index) continue;
          if (std::ranges::find(skipped, from) != skipped.end()) return false;
        }
        const std::uint32_t from = unit_of_[root];
        if (from == no_index || std::ranges::find(group, from) == group.end()) continue;
        if (is_view(p_, shown_, i)) continue;
        if (p_.folds_rows(p_.items[root])) return false;  // complete when all rows are
        if (!p_.cut_with_rows(item, k) && !p_.folds_rows(item)) return false;
        if (!rows_aligned(in)) return false;
        reads_group = true;
      }
    }
    return reads_group;
  }

  void mark(const std::vector<std::uint32_t>& group) {
    const auto id = static_cast<std::uint32_t>(p_.row_blocks.size());
    std::int64_t rows = 0, bytes = 0, parts = 1;
    by_rows(units_[group[0]], rows);
    for (const std::uint32_t u : group) {
      for (const std::uint32_t i : units_[u].items)
        if (!is_view(p_, shown_, i)) p_.items[i].rows = id;
      bytes += row_bytes(units_[u], rows);
      if (const std::int64_t at_once = folded_at_once(units_[u], rows); at_once > 0)
        parts = std::lcm(parts, at_once);
    }
    p_.row_blocks.push_back(block_of(rows, bytes, parts));
  }

  Program& p_;
  const ShownItems shown_;
  std::vector<std::uint32_t> unit_of_;
  std::vector<Unit> units_;
};

}  // namespace

void fuse_rows(Program& p) { RowFusion(p).run(); }

}  // namespace opgrad
