// The factory of nodes, their memory, and their release without recursion.
#include "ir.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

#include "parameter.h"
#include "scope.h"

#if defined(__SANITIZE_ADDRESS__)
#define OPGRAD_PLAIN_NODES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OPGRAD_PLAIN_NODES 1
#endif
#endif

namespace opgrad {
namespace {

// ---- node memory: slabs, and free lists per thread

#ifdef OPGRAD_PLAIN_NODES
// Every node is an allocation of its own, so that the sanitizer sees a use after its release.
void* take_memory() { return ::operator new (sizeof(Node), std::align_val_t{64}); }
struct GivenBack {
  void add(Node* n) noexcept {
    n->~Node();
    ::operator delete (n, std::align_val_t{64});
  }
};
#else
struct FreeNode {
  FreeNode* next;
};
constinit thread_local FreeNode* free_nodes = nullptr;
std::mutex shared_lock;
FreeNode* shared_nodes = nullptr;  // left by threads that ended

struct LeaveToOthers {
  ~LeaveToOthers() {
    if (!free_nodes) return;
    const std::scoped_lock hold(shared_lock);
    FreeNode* last = free_nodes;
    while (last->next) last = last->next;
    last->next = shared_nodes;
    shared_nodes = std::exchange(free_nodes, nullptr);
  }
};

void refill() {
  thread_local LeaveToOthers at_exit;
  static_cast<void>(at_exit);
  {
    const std::scoped_lock hold(shared_lock);
    free_nodes = std::exchange(shared_nodes, nullptr);
  }
  if (free_nodes) return;
  constexpr std::size_t count = 1024;
  auto* slab = static_cast<std::byte*>(::operator new (count * sizeof(Node), std::align_val_t{64}));
  for (std::size_t i = count; i-- > 0;) free_nodes = new (slab + i * sizeof(Node)) FreeNode{free_nodes};
}

void* take_memory() {
  if (!free_nodes) refill();
  FreeNode* n = free_nodes;
  free_nodes = n->next;
  return n;
}

// Nodes that go together look once where the thread's list is, which is a call in a shared library.
class GivenBack {
 public:
  ~GivenBack() {
    if (!first_) return;
    last_->next = free_nodes;
    free_nodes = first_;
  }
  void add(Node* n) noexcept {
    n->~Node();
    first_ = new (n) FreeNode{first_};
    if (!last_) last_ = first_;
  }

 private:
  FreeNode *first_ = nullptr, *last_ = nullptr;
};
#endif

// One block: the Extra, the attributes (16-byte aligned), the inputs.
Extra* make_extra(std::span<Node* const> inputs, const AttributeInfo* info, const void* attributes) {
  const std::size_t head = (sizeof(Extra) + 15) / 16 * 16;
  const std::size_t middle = info ? (info->size + 15) / 16 * 16 : 0;
  auto* block = static_cast<std::byte*>(::operator new(head + middle + inputs.size_bytes()));
  auto* e = new (block) Extra{nullptr, nullptr};
  if (info) {
    e->attributes = block + head;
    std::memcpy(e->attributes, attributes, info->size);
  }
  e->inputs = reinterpret_cast<Node**>(block + head + middle);
  if (!inputs.empty()) std::memcpy(e->inputs, inputs.data(), inputs.size_bytes());
  return e;
}

struct ReleaseExtra {
  void operator()(Extra* e) const { ::operator delete(e); }
};

Node* new_node(const Op& op, DType dtype, ShapeId shape, Location where, HandleCount::For whom) {
  const OriginId origin = origin_at(where);
  void* memory = take_memory();
  HandleCount::attend();
  return new (memory) Node{.refs = HandleCount(whom),
                           .arity = 0,
                           .dtype = dtype,
                           .flags = 0,
                           .origin = origin,
                           .op = &op,
                           .in = {nullptr, nullptr},
                           .u = {.number = 0},
                           .value = nullptr,
                           .shape = shape,
                           .index = 0};
}

[[noreturn]] void refuse_node(const Op& op, std::string_view message, Location where) {
  throw UserError(fmt::format("{}: {}\n  at {}", op.name, message, to_string(*origin_at(where))));
}

// What a rule throws names the operation, unless it comes from a Shape or a list of axes that could not be
// made: then nobody has said yet by what they were asked for.
[[noreturn]] void refuse_result(const Call& call, std::string_view message, Location where) {
  const std::string name = fmt::format("{}: ", call.op.name);
  if (message.starts_with(name)) refuse_node(call.op, message.substr(name.size()), where);
  std::string given;
  for (int i = 0; i < call.arity(); ++i)
    given += fmt::format("{}{}", i ? ", " : "", to_string(Type{call.dtype(i), call.shape(i)}));
  if (call.op.attributes) given += "; " + call.op.attributes->text(call.attributes_pointer);
  refuse_node(call.op, fmt::format("{}; the call was {}({})", message, call.op.name, given), where);
}

bool takes(const Op& op, std::span<Node* const> inputs) {
  const std::size_t n = inputs.size();
  const bool count = op.arity >= 0 ? n == static_cast<std::size_t>(op.arity) : n > 0 && n <= most_inputs;
  bool all = count;
  for (const Node* input : inputs) all = all && input;
  return all;
}

[[noreturn, gnu::cold]] void refuse_inputs(const Op& op, std::span<Node* const> inputs, Location where) {
  const std::size_t n = inputs.size();
  if (op.arity >= 0 && n != static_cast<std::size_t>(op.arity))
    refuse_node(op, fmt::format("takes {} inputs and was given {}", op.arity, n), where);
  if (op.arity < 0 && (n == 0 || n > most_inputs))
    refuse_node(op, fmt::format("takes 1 to {} inputs and was given {}", most_inputs, n), where);
  const auto empty = std::ranges::find(inputs, nullptr);
  refuse_node(
      op,
      fmt::format("input {} is an empty Tensor, or an Operand that is a number; operand.tensor(\"{}\") "
                  "is a tensor in both cases",
                  empty - inputs.begin(), op.name),
      where);
}

}  // namespace

void destroy(Node* dead) noexcept {
  // The link to the next dead node stands where its value stood.
  delete dead->value;
  dead->value = nullptr;
  GivenBack memory;
  while (dead) {
    Node* const n = dead;
    dead = reinterpret_cast<Node*>(n->value);
    for (Node* input : n->inputs()) {
      if (!input->refs.drop()) continue;
      delete input->value;
      input->value = reinterpret_cast<Value*>(dead);
      dead = input;
    }
    if (n->has(node_flag::extra)) ::operator delete(n->u.extra);
    memory.add(n);
  }
}

void Call::fail(const std::string& message) const {
  throw UserError(fmt::format("{}: {}", op.name, message));
}

Grads no_gradient(const Tensor& y, const Tensor&, Wanted) {
  throw InternalError(fmt::format("the gradient of {} was asked, which has none", y.node()->op->name));
}

Tensor make_node(const Op& op, std::span<Node* const> inputs, Location where, const void* attributes) {
  if (!takes(op, inputs)) refuse_inputs(op, inputs, where);
  if (op.attributes && !attributes)
    refuse_node(op, "its record has .attributes and the node was made without; pass them to make", where);
  const Call call{op, inputs, attributes};
  const Result result = [&] {
    try {
      return op.shape(call);
    } catch (const UserError& e) {
      refuse_result(call, e.what(), where);
    }
  }();
  if (attributes && !op.attributes)
    refuse_node(op,
                "the node was made with attributes, which its record would lose; write .attributes = "
                "&attribute_info<...>",
                where);
  std::unique_ptr<Extra, ReleaseExtra> extra;
  if (op.attributes || inputs.size() > 2) extra.reset(make_extra(inputs, op.attributes, attributes));
  Node* const n = new_node(op, result.dtype, result.shape, where, HandleCount::For::this_thread);
  n->arity = static_cast<std::uint8_t>(inputs.size());
  if (extra) {
    n->flags |= node_flag::extra;
    n->u.extra = extra.release();
  }
  if (inputs.size() <= 2)
    for (std::size_t i = 0; i < inputs.size(); ++i) n->in[i] = inputs[i];
  std::uint16_t any = 0;
  for (Node* input : inputs) {
    any |= input->flags;
    input->refs.add();
  }
  if ((any & node_flag::tracked) && op.backward != no_gradient) n->flags |= node_flag::tracked;
  return Tensor(n);
}

namespace {
Tensor number_node(ShapeId shape, double number, DType dtype, Location where, std::uint16_t flags) {
  Node* n = new_node(structural::number, dtype, shape, where, HandleCount::For::this_thread);
  n->u.number = number;
  n->flags = flags;
  return Tensor(n);
}
}  // namespace

Tensor full(const Shape& shape, double number, DType dtype, const char* file, int line) {
  return number_node(intern(shape), number, dtype, {file, line}, 0);
}
Tensor slot_number(const Shape& shape, double number, DType dtype) {
  return number_node(intern(shape), number, dtype, {}, node_flag::slot);
}
Tensor full_like(const Node& x, double number, Location where) {
  return number_node(x.shape, number, x.dtype, where, 0);
}

Tensor leaf(BufferRef buffer, DType dtype, const Shape& shape, Location where) {
  auto value = new Value{std::move(buffer)};
  Node* n = nullptr;
  try {
    n = new_node(structural::leaf, dtype, intern(shape), where, HandleCount::For::nobody);
  } catch (...) {
    delete value;
    throw;
  }
  n->value = value;
  return Tensor(n);
}

Tensor tensor_from_bytes(const void* data, std::int64_t count, DType dtype, const Shape& shape,
                         Location where) {
  if (count != shape.numel())
    throw UserError(fmt::format("tensor: {} elements were given for shape {}, which has {}\n  at {}", count,
                                to_string(shape), shape.numel(), to_string(*origin_at(where))));
  const std::size_t bytes = static_cast<std::size_t>(count) * size_of(dtype);
  BufferRef buffer = allocate(bytes);
  if (bytes) std::memcpy(buffer->data, data, bytes);
  return leaf(std::move(buffer), dtype, shape, where);
}

Tensor Operand::tensor(const char* operation) const {
  if (is_number_) return full({}, number_, DType::f32, where_.file, where_.line);
  if (!node_)
    throw UserError(
        fmt::format("{}: an operand is an empty Tensor\n  at {}", operation, to_string(*origin_at(where_))));
  return Tensor::share(node_);
}

}  // namespace opgrad
