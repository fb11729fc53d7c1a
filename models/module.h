// Modules: what holds parameters and is called with tensors. A module is a handle: a copy is the same module,
// so a layer used in two places is one layer.
//
// An architecture of one's own derives from Layer, names its parts once with add(), and says in forward (a
// const member function of one to four tensors) what is computed:
//
//     class ResidualBlock : public Layer<ResidualBlock> {
//      public:
//       explicit ResidualBlock(std::int64_t channels)
//           : conv(add("conv", Conv2D(channels, 3, relu, {.padding = Padding::same}))),
//             project(add("project", Conv2D(channels, 1))) {}
//       Tensor forward(const Tensor& x, const Tensor& skip) const {
//         return relu(conv(conv(x)) + project(skip));
//       }
//
//      private:
//       Conv2D conv, project;
//     };
#pragma once
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../core/random.h"
#include "../graph/ir.h"
#include "../graph/parameter.h"
#include "../graph/scope.h"

namespace opgrad {

// How weights begin. fan_in and fan_out are the numbers of inputs and outputs of one unit.
//   glorot_uniform  uniform in +-sqrt(6 / (fan_in + fan_out)): Keras's default
//   he_uniform      uniform in +-sqrt(6 / fan_in)
//   he_normal       normal of variance 2 / fan_in, cut at two deviations before scaling (as Keras)
// Sources: Glorot and Bengio, AISTATS 2010; He, Zhang, Ren, Sun, ICCV 2015.
enum class Initializer : std::uint8_t { glorot_uniform, he_uniform, he_normal, zeros, ones };

struct ModuleState;
class LayerCall;

// A parameter and its path from the module that was asked: "conv2d_1/kernel".
struct NamedParameter {
  std::string name;
  Parameter parameter;
};

class Module {
 public:
  virtual ~Module();

  // Calls a module of one input whose type is not known; UserError when it takes more.
  Tensor operator()(const Operand& x) const { return call(x); }

  // All parameters below this module, in the order of its parts, each once; those of layers that have not
  // been used yet do not exist yet (build makes them). Statistics, which no step trains, are among them.
  std::vector<NamedParameter> parameters() const;
  // UserError naming what there is when there is no parameter of this path.
  Parameter parameter(const std::string& name) const;
  // The number of elements of all parameters.
  std::int64_t parameter_count() const;

  // Starts from this seed (0 unless set): weights are drawn from the seed and their path, at first use or,
  // where they exist already, now; random layers use it too.
  void initialize(std::uint64_t seed);

  // Leaves the parameters below this module out of training, or takes them in again; also those that do not
  // exist yet.
  void freeze();
  void unfreeze();

  // Calls the module with zeros of this shape in inference mode, so that its parameters exist; nothing is
  // computed. For modules of one input; others have their parameters after their first call.
  void build(const Shape& input, DType dtype = DType::f32, const char* file = __builtin_FILE(),
             int line = __builtin_LINE()) const;

  // Training mode, as at the beginning, or inference mode for this module and all below.
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const;

  // Paths of parameters with their elements, computed: safetensors (models/safetensors.h). load wants exactly
  // the module's names and types and otherwise throws one UserError that lists every missing, extra and
  // misshaped one.
  void save(const std::string& path) const;
  void load(const std::string& path);
  // New values, in the order of parameters(). UserError, before anything changes, that lists what does not
  // fit.
  void set_weights(const std::vector<Tensor>& values);
  // FNV-1a, 64 bits, over names, types and bytes in the order of parameters(): equal for equal weights.
  std::string digest() const;

  // The table of layers, output volumes (of one example, as of the last call) and parameters.
  std::string summary() const;

  // "ResidualBlock" -> "residual_block"; what parts without a name of their own are called.
  std::string type_name() const;
  // The path from the outermost module that holds this one; the outermost one has none if it has parts.
  std::string path() const;

 protected:
  Module();
  Module(const Module&) = default;
  Module& operator=(const Module&) = default;

  // Makes `part` a part of this module and returns it. UserError for a name that is taken, empty or has a
  // '/'.
  template <std::derived_from<Module> Part>
  Part add(const std::string& name, Part part) {
    add_part(name, part);
    return part;
  }

  // The parameter `name` of this module: made on the first call, of this type, drawn by `initializer`;
  // afterwards what is there. fan_in and fan_out matter to the first call only.
  Parameter weight(const std::string& name, const Shape& shape, DType dtype, Initializer initializer,
                   std::int64_t fan_in = 1, std::int64_t fan_out = 1) const;
  // The same for state that no step trains: statistics, replaced with Parameter::assign.
  Parameter statistic(const std::string& name, const Shape& shape, DType dtype,
                      Initializer initializer) const;
  // The parameter if it exists already, else an empty handle.
  Parameter existing(const std::string& name) const;

  // A random stream of this module's own for this call: seed, path, training step, number of the call within
  // it.
  Key call_key() const;

  // Throws UserError "<type>: message" with the user's line and this module's path.
  [[noreturn]] void fail(const std::string& message) const;

 private:
  friend class LayerCall;
  friend class Sequential;
  friend class Mode;
  virtual Tensor call(const Operand& x) const = 0;
  void add_part(const std::string& name, const Module& part) const;
  Parameter make_weight(const std::string& name, const Shape& shape, DType dtype, Initializer initializer,
                        std::int64_t fan_in, std::int64_t fan_out, bool statistic) const;
  void set_frozen(bool on);

  std::shared_ptr<ModuleState> state_;
};

// While it lives, this thread is inside the module: nodes take its path and the outermost user line. Layer
// opens it.
class LayerCall {
 public:
  LayerCall(const Module& module, Location where);
  ~LayerCall();
  LayerCall(const LayerCall&) = delete;
  LayerCall& operator=(const LayerCall&) = delete;
  // Notes the output for the summary; UserError when it is empty.
  Tensor result(Tensor y) const;

 private:
  friend class Module;
  const Module& module_;
  const LayerCall* outer_;
  CallScope line_;
  std::optional<PathScope> path_;
};

// The base of all layers: calls Self::forward inside a LayerCall.
template <class Self>
class Layer : public Module {
 public:
  Tensor operator()(const Operand& a) const { return run(a); }
  Tensor operator()(const Operand& a, const Operand& b) const { return run(a, b); }
  Tensor operator()(const Operand& a, const Operand& b, const Operand& c) const { return run(a, b, c); }
  Tensor operator()(const Operand& a, const Operand& b, const Operand& c, const Operand& d) const {
    return run(a, b, c, d);
  }

 private:
  template <class... In>
  Tensor run(const Operand& first, const In&... rest) const {
    static_assert(
        requires(const Self& s) { s.forward(first.tensor(""), rest.tensor("")...); },
        "forward must be a public const member function that takes this many tensors");
    const LayerCall scope(*this, first.where());
    return scope.result(
        static_cast<const Self&>(*this).forward(first.tensor("a layer"), rest.tensor("a layer")...));
  }
  Tensor call(const Operand& x) const override {
    if constexpr (requires(const Self& s, const Tensor& t) { s.forward(t); })
      return run(x);
    else
      fail("it takes more than one input, so it can neither stand in a Sequential nor be called with one");
  }
};

// Layers one after the other. Each is called by its type's name, repeated ones with _1, _2, ...: conv2d,
// conv2d_1.
class Sequential : public Layer<Sequential> {
 public:
  template <std::derived_from<Module>... Layers>
  requires(sizeof...(Layers) > 0) explicit Sequential(Layers... layers) {
    (append(std::make_shared<Layers>(std::move(layers))), ...);
  }
  Tensor forward(const Tensor& x) const;

 private:
  void append(std::shared_ptr<Module> layer);
  std::vector<std::shared_ptr<Module>> layers_;
};

// Training or inference mode as long as it lives; then the modes that were before.
class Mode {
 public:
  Mode(const Module& module, bool training);
  ~Mode();
  Mode(const Mode&) = delete;
  Mode& operator=(const Mode&) = delete;

 private:
  std::vector<std::pair<std::weak_ptr<ModuleState>, bool>> before_;
};

}  // namespace opgrad
