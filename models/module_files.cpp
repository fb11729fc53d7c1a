// A module's weights as one whole: saved, loaded, set, summed up in a digest.
#include <fmt/format.h>

#include <map>
#include <span>

#include "bytes_of.h"
#include "module.h"
#include "safetensors.h"

namespace opgrad {

namespace {

std::string type_text(const Tensor& x) { return to_string(Type{x.dtype(), x.shape()}); }

}  // namespace

void Module::save(const std::string& path) const {
  std::vector<Tensor> values;  // keep the bytes alive
  std::vector<NamedArrayView> arrays;
  for (const auto& [name, p] : parameters()) {
    values.push_back(p.value());
    arrays.push_back({name, {p.dtype(), p.shape()}, bytes_of(values.back())});
  }
  write_safetensors(path, arrays);
}

void Module::load(const std::string& path) {
  const std::vector<NamedArray> arrays = read_safetensors(path);
  std::map<std::string, const NamedArray*> given;
  for (const NamedArray& a : arrays) given[a.name] = &a;
  std::string faults;
  std::vector<Tensor> values;
  const auto wanted = parameters();
  if (wanted.empty())
    fail("it has no parameters before its first use; call build with the shape of the input, then load");
  for (const auto& [name, p] : wanted) {
    const auto found = given.find(name);
    const Type type{p.dtype(), p.shape()};
    if (found == given.end()) {
      faults += fmt::format("\n  missing: {} {}", name, to_string(type));
      continue;
    }
    const NamedArray& a = *found->second;
    if (a.type == type)
      values.push_back(tensor_from_bytes(a.bytes.data(), type.shape.numel(), type.dtype, type.shape, {}));
    else
      faults +=
          fmt::format("\n  misshaped: {} is {}, but must be {}", name, to_string(a.type), to_string(type));
    given.erase(found);
  }
  for (const NamedArray& a : arrays)
    if (given.contains(a.name)) faults += fmt::format("\n  extra: {} {}", a.name, to_string(a.type));
  if (!faults.empty())
    throw UserError(fmt::format("{} does not hold the weights of this model:{}", path, faults));
  set_weights(values);
}

void Module::set_weights(const std::vector<Tensor>& values) {
  const auto wanted = parameters();
  if (values.size() != wanted.size())
    fail(fmt::format("{} tensors were given for {} parameters", values.size(), wanted.size()));
  std::string faults;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Parameter& p = wanted[i].parameter;
    const std::string given = values[i] ? type_text(values[i]) : "an empty Tensor";
    if (const std::string type = to_string(Type{p.dtype(), p.shape()}); given != type)
      faults += fmt::format("\n  misshaped: {} was given {}, but must be {}", wanted[i].name, given, type);
  }
  if (!faults.empty()) fail("the tensors do not fit:" + faults);
  for (std::size_t i = 0; i < values.size(); ++i) {
    Parameter p = wanted[i].parameter;
    p.assign(values[i]);
  }
}

std::string Module::digest() const {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) hash = (hash ^ static_cast<std::uint64_t>(b)) * 0x100000001b3;
  };
  for (const auto& [name, p] : parameters()) {
    const Tensor value = p.value();
    const std::string head = name + " " + type_text(value) + "\n";
    add(std::as_bytes(std::span(head)));
    add(bytes_of(value));
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace opgrad
