// Shrinking, round after round, until nothing smaller fails.
#include "shrink.h"

#include <algorithm>
#include <set>

namespace opgrad::fuzz {
namespace {

bool builds(const Graph& g) {
  try {
    build(g);
    return !g.outputs.empty();
  } catch (const Error&) {
    return false;
  }
}

// Without the records that nothing asked for needs.
Graph reached(const Graph& g) {
  std::vector<bool> live(g.records.size(), false);
  for (const std::uint32_t o : g.outputs) live[o] = true;
  for (const std::uint32_t h : g.held) live[h] = true;
  for (std::size_t i = g.records.size(); i-- > 0;)
    if (live[i])
      for (const std::uint32_t in : g.records[i].in) live[in] = true;
  Graph smaller = g;
  smaller.records.clear();
  std::vector<std::uint32_t> now(g.records.size());
  for (std::size_t i = 0; i < g.records.size(); ++i) {
    if (!live[i]) continue;
    now[i] = static_cast<std::uint32_t>(smaller.records.size());
    smaller.records.push_back(g.records[i]);
    for (std::uint32_t& in : smaller.records.back().in) in = now[in];
  }
  for (std::uint32_t& o : smaller.outputs) o = now[o];
  for (std::uint32_t& h : smaller.held) h = now[h];
  return smaller;
}

class Shrinking {
 public:
  Shrinking(Graph g, const std::function<bool(const Graph&)>& fails) : g_(std::move(g)), fails_(fails) {}

  Graph run() {
    do {
      changed_ = false;
      fewer(&Graph::outputs);
      fewer(&Graph::held);
      earlier_outputs();
      switch_off();
      cut();
      smaller_sizes();
      plainer();
    } while (changed_);
    return g_;
  }

 private:
  bool accept(const Graph& candidate) {
    Graph g = reached(candidate);
    if (!builds(g) || !fails_(g)) return false;
    g_ = std::move(g);
    return changed_ = true;
  }

  void fewer(std::vector<std::uint32_t> Graph::*list) {
    for (std::size_t i = 0; i < (g_.*list).size();) {
      Graph g = g_;
      (g.*list).erase((g.*list).begin() + static_cast<std::ptrdiff_t>(i));
      if (!accept(g)) ++i;
    }
  }

  // An output becomes one of its inputs.
  void earlier_outputs() {
    for (std::size_t i = 0; i < g_.outputs.size(); ++i)
      for (bool again = true; again;) {
        again = false;
        for (const std::uint32_t in : std::vector(g_.records[g_.outputs[i]].in)) {
          Graph g = g_;
          g.outputs[i] = in;
          if ((again = accept(g))) break;
        }
      }
  }

  void switch_off() {
    for (bool Graph::*flag : {&Graph::gradients, &Graph::step, &Graph::adam}) {
      if (!(g_.*flag)) continue;
      Graph g = g_;
      g.*flag = false;
      accept(g);
    }
  }

  // A node becomes one of its inputs, else a leaf of its type; users of a node use its input.
  void cut() {
    for (std::size_t i = g_.records.size(); i-- > 0;) {
      if (i >= g_.records.size() || g_.records[i].in.empty()) continue;
      const Built b = build(g_);
      const Type type{b.values[i].dtype(), b.values[i].shape()};
      bool done = false;
      for (const std::uint32_t in : std::vector(g_.records[i].in)) {
        if (!(Type{b.values[in].dtype(), b.values[in].shape()} == type)) continue;
        Graph g = g_;
        const auto replace = [&](std::uint32_t& x) { x = x == i ? in : x; };
        for (Record& r : g.records) std::ranges::for_each(r.in, replace);
        std::ranges::for_each(g.outputs, replace);
        std::ranges::for_each(g.held, replace);
        if ((done = accept(g))) break;
      }
      if (done) continue;
      for (const What what : {What::leaf, What::parameter}) {
        if (what == What::parameter && !is_float(type.dtype)) continue;
        Graph g = g_;
        g.records[i] = {.what = what, .type = type, .low = 0, .high = 2, .seed = i + 1};
        if (accept(g)) break;
      }
    }
  }

  // One size, wherever it stands.
  void smaller_sizes() {
    std::set<std::int64_t, std::greater<>> sizes;
    for (const Record& r : g_.records)
      for (const std::int64_t d : r.type.shape) sizes.insert(d);
    for (const std::int64_t from : sizes)
      for (const std::int64_t to : {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, from / 2, from - 1}) {
        if (to >= from || to < 1) continue;
        Graph g = g_;
        for (Record& r : g.records) {
          std::vector<std::int64_t> dims(r.type.shape.begin(), r.type.shape.end());
          std::ranges::replace(dims, from, to);
          r.type.shape = Shape(std::span<const std::int64_t>(dims));
          if (r.what == What::slice || r.what == What::pad)
            for (Axes* axes : {&r.a, &r.b}) std::ranges::replace(axes->values, from, to);
        }
        if (accept(g)) break;
      }
  }

  void plainer() {
    for (std::size_t i = 0; i < g_.records.size(); ++i) {
      const Record r = g_.records[i];
      const auto tried = [&](auto change) {
        if (i >= g_.records.size()) return;
        Graph g = g_;
        change(g.records[i]);
        accept(g);
      };
      if (r.data != Data::plain && r.data != Data::bits) tried([](Record& x) { x.data = Data::plain; });
      if (r.what == What::parameter) tried([](Record& x) { x.what = What::leaf; });
      if (r.what == What::alias)
        tried([](Record& x) {
          x.what = What::leaf;
          x.in.clear();
        });
      if (r.what == What::slot) tried([](Record& x) { x.what = What::number; });
    }
  }

  Graph g_;
  const std::function<bool(const Graph&)>& fails_;
  bool changed_ = false;
};

}  // namespace

Graph shrink(Graph g, const std::function<bool(const Graph&)>& fails) {
  return Shrinking(std::move(g), fails).run();
}

}  // namespace opgrad::fuzz
