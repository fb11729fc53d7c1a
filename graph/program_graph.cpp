// The captured graph as Boost.Graph sees it, and what Boost.Graph computes on it: the only file that knows
// Boost.
#include <boost/graph/graph_concepts.hpp>
#include <boost/graph/graph_traits.hpp>
#include <boost/graph/properties.hpp>
#include <boost/graph/topological_sort.hpp>
#include <boost/iterator/counting_iterator.hpp>
#include <boost/iterator/iterator_facade.hpp>
#include <boost/property_map/property_map.hpp>
#include <iterator>
#include <utility>

#include "program.h"

namespace opgrad {

// A light view, nothing copied. Edges run from an item to its inputs, so a topological sort yields execution
// order; x*x has two parallel edges.
struct ProgramView {
  const Program* program;

  struct edge_descriptor {
    std::uint32_t from = 0, slot = 0;
    bool operator==(const edge_descriptor&) const = default;
  };
  class out_edge_iterator : public boost::iterator_facade<out_edge_iterator, edge_descriptor,
                                                          boost::forward_traversal_tag, edge_descriptor> {
   public:
    out_edge_iterator() = default;
    out_edge_iterator(std::uint32_t from, std::uint32_t slot) : edge_{from, slot} {}

   private:
    friend class boost::iterator_core_access;
    edge_descriptor dereference() const { return edge_; }
    bool equal(const out_edge_iterator& o) const { return edge_ == o.edge_; }
    void increment() { ++edge_.slot; }
    edge_descriptor edge_;
  };

  using vertex_descriptor = std::uint32_t;
  using vertex_iterator = boost::counting_iterator<std::uint32_t>;
  using vertices_size_type = std::uint32_t;
  using edges_size_type = std::size_t;
  using degree_size_type = std::uint32_t;
  using directed_category = boost::directed_tag;
  using edge_parallel_category = boost::allow_parallel_edge_tag;
  struct traversal_category : boost::vertex_list_graph_tag, boost::incidence_graph_tag {};
  using adjacency_iterator = void;
  using in_edge_iterator = void;
  using edge_iterator = void;
  static vertex_descriptor null_vertex() { return no_index; }
};

inline std::uint32_t num_vertices(const ProgramView& v) {
  return static_cast<std::uint32_t>(v.program->items.size());
}
inline std::pair<ProgramView::vertex_iterator, ProgramView::vertex_iterator> vertices(const ProgramView& v) {
  return {ProgramView::vertex_iterator(0), ProgramView::vertex_iterator(num_vertices(v))};
}
inline std::uint32_t out_degree(std::uint32_t i, const ProgramView& v) { return v.program->items[i].count; }
inline std::pair<ProgramView::out_edge_iterator, ProgramView::out_edge_iterator> out_edges(
    std::uint32_t i, const ProgramView& v) {
  return {{i, 0}, {i, out_degree(i, v)}};
}
inline std::uint32_t source(ProgramView::edge_descriptor e, const ProgramView&) { return e.from; }
inline std::uint32_t target(ProgramView::edge_descriptor e, const ProgramView& v) {
  return v.program->inputs_of(v.program->items[e.from])[e.slot];
}
inline boost::typed_identity_property_map<std::uint32_t> get(boost::vertex_index_t, const ProgramView&) {
  return {};
}

}  // namespace opgrad

namespace boost {
template <>
struct property_map<opgrad::ProgramView, vertex_index_t> {
  using type = typed_identity_property_map<std::uint32_t>;
  using const_type = type;
};
}  // namespace boost

namespace opgrad {

std::vector<std::uint32_t> topological_order(const Program& p) {
  BOOST_CONCEPT_ASSERT((boost::VertexListGraphConcept<ProgramView>));
  BOOST_CONCEPT_ASSERT((boost::IncidenceGraphConcept<ProgramView>));
  std::vector<std::uint32_t> sorted;
  sorted.reserve(p.items.size());
  const ProgramView view{&p};
  std::vector<boost::default_color_type> colour(p.items.size(), boost::white_color);
  try {
    boost::topological_sort(view, std::back_inserter(sorted),
                            boost::color_map(boost::make_iterator_property_map(
                                colour.begin(), boost::typed_identity_property_map<std::uint32_t>())));
  } catch (const boost::not_a_dag&) {
    throw InternalError("the captured graph has a cycle");
  }
  return sorted;
}

}  // namespace opgrad
