// Reading tensors: shapes, numbers, text.
#include <fmt/format.h>

#include <algorithm>

#include "ir.h"
#include "run.h"

namespace opgrad {
namespace {

const Node& full_handle(const Node* n, const char* what) {
  if (!n) throw UserError(fmt::format("{} of an empty Tensor", what));
  return *n;
}

template <class T>
std::string element(const T& x) {
  if constexpr (std::is_same_v<T, std::uint8_t>)
    return fmt::format("{}", static_cast<int>(x));
  else
    return fmt::format("{}", x);
}

// One axis after the other, three elements from either end of long ones.
template <class T>
void print(std::string& s, const T* data, const Shape& shape, int axis, std::int64_t stride) {
  if (axis == shape.rank()) {
    s += element(*data);
    return;
  }
  constexpr std::int64_t shown = 3;
  const std::int64_t n = shape[axis];
  stride = n ? stride / n : 0;
  s += '{';
  for (std::int64_t i = 0; i < n; ++i) {
    if (i) s += ", ";
    if (n > 2 * shown && i == shown) {
      s += "..., ";
      i = n - shown;
    }
    print(s, data + i * stride, shape, axis + 1, stride);
  }
  s += '}';
}

}  // namespace

const Shape& Tensor::shape() const { return shape_of(full_handle(n_, "the shape").shape); }
DType Tensor::dtype() const { return full_handle(n_, "the dtype").dtype; }

BufferRef Tensor::computed(DType asked) const {
  if (dtype() != asked)
    throw UserError(fmt::format("the tensor is {} and was read as {}; read it as {}, or cast it",
                                name_of(dtype()), name_of(asked), name_of(dtype())));
  eval(*this);
  return n_->value->buffer;
}

double Tensor::item() const {
  if (numel() != 1)
    throw UserError(
        fmt::format("item: the tensor is {}, which has {} elements and not one; index it or use values()",
                    to_string(Type{dtype(), shape()}), numel()));
  eval(*this);
  return dispatch(dtype(), [&]<class T>() {
    return static_cast<double>(*reinterpret_cast<T*>(n_->value->buffer->data));
  });
}

std::string to_string(const Tensor& t) {
  if (!t) return "an empty Tensor";
  eval(t);
  std::string s = to_string(Type{t.dtype(), t.shape()}) + " ";
  dispatch(t.dtype(), [&]<class T>() {
    print(s, reinterpret_cast<const T*>(t.node()->value->buffer->data), t.shape(), 0, t.numel());
  });
  return s;
}

}  // namespace opgrad
